//! What may change of a Node, in CEL.
//!
//! A list of fields that must not change would miss those that a later Kubernetes adds. So these
//! expressions go the other way round, over whatever fields an object has, and name what may change.
//! `dyn` keeps the API server's type checker from warning of that.

/// How long reason and message of a condition may be that a reporter writes, in characters each. The
/// API server has no such limit, everybody who watches nodes would pay for longer ones, and with some
/// more a Node is too large to be written any more.
const LONGEST_TEXT: usize = 1024;

/// Variables that [`own_conditions_only`] uses. `types` are the conditions that may change.
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

/// That a Node changes in no other way than that conditions of `types` do, and each message.
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
            format!("{who} may change nothing of its Node but conditions that rules probe"),
        ),
        (
            format!("variables.conditions.{others} == variables.oldConditions.{others}"),
            format!("{who} may change no condition of its Node but those that rules probe"),
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

/// That a text, if it is there, is no longer than it may be.
fn short(text: &str) -> String {
    format!("(!has({text}) || size({text}) <= {LONGEST_TEXT})")
}

/// That two maps are equal but for these keys.
fn unchanged(new: &str, old: &str, but: &[&str]) -> String {
    let but = list(but.iter().copied());
    format!(
        "{new}.all(f, f in {but} || (f in {old} && {new}[f] == {old}[f])) && \
         {old}.all(f, f in {but} || f in {new})"
    )
}

/// A list of strings. JSON's escapes are among CEL's.
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
