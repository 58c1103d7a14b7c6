//! The documents say what is there: names of tests, files, codes and reasons are compared with the code.

use std::fs;
use std::path::{Path, PathBuf};

use handover_core::Reason;
use handover_gateway::ErrorCode;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every document in Markdown.
fn documents() -> Vec<String> {
    let names = ["README.md", "ARCHITECTURE.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    let guide = fs::read_dir(root().join("docs/guide")).expect("there is a guide");
    let pages = guide.map(|page| format!("docs/guide/{}", page.expect("readable").file_name().to_string_lossy()));
    names.map(str::to_owned).into_iter().chain(pages).collect()
}

/// The source of every crate, as one text.
fn source() -> String {
    fn gather(directory: &Path, text: &mut String) {
        for entry in fs::read_dir(directory).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                gather(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&fs::read_to_string(&path).expect("source is text"));
            }
        }
    }
    let mut text = String::new();
    gather(&root().join("crates"), &mut text);
    text
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The part of a document between two headings.
fn section<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("no {from}"));
    rest.split_once(to).unwrap_or_else(|| panic!("no {to} behind {from}")).0
}

#[test]
fn every_test_that_the_readme_names_is_there() {
    let (readme, source) = (read("README.md"), source());
    let promises = section(&readme, "\n## Where each promise is shown\n", "\n## Measured\n");
    // A test's name is a claim; the shorter words are values and fields.
    let names: Vec<_> = quoted(promises).filter(|name| is_name(name) && name.matches('_').count() >= 3).collect();
    assert!(names.len() > 80, "the list has shrunk to {}", names.len());
    let missing: Vec<_> = names.iter().filter(|name| !source.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "the README names tests that are not there: {missing:?}");
}

#[test]
fn every_file_that_a_document_names_is_there() {
    let mut missing = Vec::new();
    for document in documents() {
        let text = read(&document);
        let home = root().join(&document).parent().expect("a directory").to_owned();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let files = links.filter(|link| !link.is_empty() && !link.contains("://"));
        missing.extend(files.filter(|file| !home.join(file).exists()).map(|file| format!("{document}: {file}")));
        let paths = quoted(&text).filter(|path| path.starts_with("crates/") && !path.contains(char::is_whitespace));
        // It is announced as not there yet.
        let paths = paths.filter(|path| *path != "crates/standby");
        missing.extend(paths.filter(|path| !root().join(path).exists()).map(|path| format!("{document}: {path}")));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_module_of_the_code_map_is_there() {
    let text = read("ARCHITECTURE.md");
    for (name, end) in [
        ("core", "### `crates/wire`"),
        ("wire", "### `crates/gateway`"),
        ("gateway", "### `crates/client`"),
        ("client", "### `crates/cli`"),
        ("cli", "### `crates/testkit`"),
    ] {
        let map = section(&text, &format!("\n### `crates/{name}`"), end);
        let rows = map.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        let modules: Vec<_> = rows.flat_map(|row| row.trim_end_matches('`').split("`, `")).collect();
        assert!(modules.len() > 5, "{name}: {modules:?}");
        for module in modules {
            let path = root().join("crates").join(name).join("src").join(module.trim_end_matches("/…"));
            assert!(path.exists(), "{}", path.display());
        }
    }
}

#[test]
fn the_two_commands_come_first_and_in_this_order() {
    let readme = read("README.md");
    let commands: Vec<_> = readme.lines().filter(|line| line.starts_with("cargo ")).collect();
    assert_eq!(commands, ["cargo run --release -- gateway", "cargo test --workspace"]);
}

#[test]
fn the_guide_has_every_error_code_with_its_status() {
    let page = read("docs/guide/gateway.md");
    for code in ErrorCode::ALL {
        let row = format!("\n| `{}` | {} | ", code.as_str(), code.status().as_u16());
        assert!(page.contains(&row), "no row {row}");
    }
}

#[test]
fn the_guide_has_every_reason_with_its_sentence() {
    let page = read("docs/guide/evidence.md");
    for reason in Reason::ALL {
        let row = format!("\n| `{reason}` | {} |\n", reason.sentence());
        assert!(page.contains(&row), "no row {row}");
    }
}
