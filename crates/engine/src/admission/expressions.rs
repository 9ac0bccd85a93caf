//! CEL expressions for the permitted changes of a Node.
//!
//! A list of forbidden fields would miss fields of later Kubernetes versions. So these expressions name the
//! permitted changes and compare all other fields. `dyn` avoids warnings of the API server's type checker.

/// The maximum length of a condition's reason and message, in characters each. The API server has no such
/// limit. Longer texts would make every watch of nodes more expensive, and much longer texts could make a Node
/// too large to write.
const LONGEST_TEXT: usize = 1024;

/// The variables of [`own_conditions_only`]. `types` are the conditions that may change.
pub(super) fn variables<'a>(
    types: impl IntoIterator<Item = &'a str>,
) -> Vec<(&'static str, String)> {
    let or_empty = |path: &str, empty: &str| format!("has({path}) ? {path} : {empty}");
    vec![
        ("types", list(types)),
        ("status", format!("dyn({})", or_empty("object.status", "{}"))),
        ("oldStatus", format!("dyn({})", or_empty("oldObject.status", "{}"))),
        ("conditions", or_empty("variables.status.conditions", "[]")),
        ("oldConditions", or_empty("variables.oldStatus.conditions", "[]")),
    ]
}

/// The expression that only conditions of `types` change, with its message.
pub(super) fn own_conditions_only(who: &str) -> Vec<(String, String)> {
    let others = "filter(c, !(c.type in variables.types))";
    vec![
        (
            format!(
                "{} && {} && {}",
                unchanged("dyn(object)", "dyn(oldObject)", &["metadata", "status"]),
                unchanged(
                    "dyn(object.metadata)",
                    "dyn(oldObject.metadata)",
                    &["generation", "managedFields", "resourceVersion"]
                ),
                unchanged("variables.status", "variables.oldStatus", &["conditions"]),
            ),
            format!(
                "{who} may change only conditions that rules probe, and no other field of its Node"
            ),
        ),
        (
            format!("variables.conditions.{others} == variables.oldConditions.{others}"),
            format!(
                "{who} may change only conditions that rules probe, and no other condition of its Node"
            ),
        ),
        (
            format!(
                "variables.types.all(t, variables.conditions.filter(c, c.type == t).size() <= 1) && \
                 variables.conditions.all(c, !(c.type in variables.types) || \
                 (c.status in ['True', 'False', 'Unknown'] && {} && {}))",
                short("c.reason"),
                short("c.message"),
            ),
            format!(
                "{who} may write each condition once, as True, False or Unknown, with a reason and a message \
                 of at most {LONGEST_TEXT} characters each"
            ),
        ),
    ]
}

/// The expression that a text, if present, is not too long.
fn short(text: &str) -> String {
    format!("(!has({text}) || size({text}) <= {LONGEST_TEXT})")
}

/// The expression that two maps are equal except for these keys.
fn unchanged(new: &str, old: &str, but: &[&str]) -> String {
    let but = list(but.iter().copied());
    format!(
        "{new}.all(f, f in {but} || (f in {old} && {new}[f] == {old}[f])) && \
         {old}.all(f, f in {but} || f in {new})"
    )
}

/// Returns a list of strings in CEL. CEL accepts JSON's escapes.
fn list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<_> =
        items.into_iter().map(|item| serde_json::Value::from(item).to_string()).collect();
    format!("[{}]", items.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_quotes() {
        assert_eq!(list(["a", "b\"] + [\"Ready"]), r#"["a", "b\"] + [\"Ready"]"#);
        assert_eq!(list(["a\\"]), r#"["a\\"]"#);
    }
}
