//! What the configuration promises, from text to values and errors.

use super::*;

mod errors;
mod files;
mod pools;
mod properties;
mod values;

/// The name that errors give the file.
const FILE: &str = "handover.toml";

fn from_file(text: &str) -> Result<Config, ConfigErrors> {
    Config::from_text(Some((FILE, text)), &[], &Flags::default())
}

fn from_env(variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    from_all("", variables, &Flags::default())
}

fn from_flags(flags: Flags) -> Result<Config, ConfigErrors> {
    from_all("", &[], &flags)
}

fn from_all(text: &str, variables: &[(&str, &str)], flags: &Flags) -> Result<Config, ConfigErrors> {
    let env: Vec<_> = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::from_text(Some((FILE, text)), &env, flags)
}

/// The errors of a file, one line each, without the file's name.
fn errors_of(text: &str) -> String {
    shown(from_file(text))
}

/// The place, key and found part of the only error of a file, and the whole.
fn one(text: &str) -> String {
    let errors = errors_of(text);
    assert_eq!(errors.lines().count(), 1, "{errors}");
    errors
}

fn shown(result: Result<Config, ConfigErrors>) -> String {
    let errors = result.expect_err("the configuration should have been refused").to_string();
    errors.replace(&format!("{FILE}:"), "")
}

fn texts(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

/// A certificate of its own and its key, in PEM.
fn certificate_and_key() -> [String; 2] {
    let key = rcgen::KeyPair::generate().expect("random numbers");
    let params = rcgen::CertificateParams::new(texts(&["gateway.example"])).expect("a name");
    [params.self_signed(&key).expect("signed").pem(), key.serialize_pem()]
}

/// The tags of a platform's nodes.
fn tags<'a>(config: &'a Config, platform: &str) -> Vec<&'a str> {
    let platform = config.platforms.iter().find(|own| own.name == platform).expect("the platform exists");
    platform.nodes.iter().map(|index| config.nodes[*index].tag.as_str()).collect()
}
