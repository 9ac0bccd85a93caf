//! The whole attack matrix of the testkit, for each way to run reporters that this Kubernetes version supports.

use std::fmt::Write as _;

use node_readiness_testkit::verification::{self, Access, Answer, Check, Guard, Scene, Setting};

use crate::guard;
use crate::harness::Exclusive;
use crate::tokens::{layout, reporter_on_node_a, rule, version};

/// A second rule, whose condition its reporters write.
const ANOTHER: &str = "matrix-another";

#[test]
fn every_answer_is_as_the_matrix_expects() {
    let mut exclusive = Exclusive::with_operator();
    let layout = layout();
    let another = rule(&mut exclusive, ANOTHER, Access::ConstrainedImpersonation);
    let accesses = Access::ALL.into_iter().filter(|access| access.exists_on(version()));
    let reporters: Vec<_> = accesses
        .map(|access| {
            let name = format!("matrix-{access}").to_lowercase();
            (access, reporter_on_node_a(&mut exclusive, &layout, &name, access))
        })
        .collect();

    let mut wrong = String::new();
    for guard in Guard::ALL {
        guard::put_up(guard);
        for (access, reporter) in &reporters {
            let setting = Setting { access: *access, guard };
            let scene = Scene::of(reporter, setting, "node-b").with_another_rule(&another);
            let checks = verification::verify(&layout, reporter, &scene).unwrap();
            // At least one answer differs from a refusal.
            assert!(checks.iter().any(|check| check.seen == Answer::Allowed), "{setting}");
            for check in checks {
                print_and_compare(setting, &check, &mut wrong);
            }
        }
    }
    assert!(wrong.is_empty(), "not as expected:\n{wrong}");
}

fn print_and_compare(setting: Setting, check: &Check, wrong: &mut String) {
    let Check { section, what, expected, seen } = check;
    // libtest shows this if the test fails.
    println!("{setting}: {section}: {what}: {seen}");
    if !check.holds() {
        writeln!(wrong, "{setting}: {section}: {what}: expected {expected:?}, seen {seen:?}")
            .unwrap();
    }
}
