//! What the README prints is what the code does.

use handover_core::table::verdict_table;

/// The README of the repository.
const README: &str = include_str!("../../../README.md");

#[test]
fn readme_verdict_table_is_what_the_code_does() {
    let (_, behind) = README.split_once("<!-- verdict-table -->\n").expect("the README marks where its table begins");
    let (printed, _) = behind.split_once("<!-- /verdict-table -->").expect("the README marks where its table ends");
    let table = verdict_table();
    assert_eq!(printed.trim(), table.trim(), "put this into the README:\n\n{table}");
}
