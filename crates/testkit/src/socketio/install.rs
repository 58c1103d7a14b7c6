//! Installs the npm packages of the Socket.IO server, once per build directory and version of the lock file.
//!
//! Test programs run at the same time, so the first takes a lock on a file and the others wait for it. The packages lie under
//! a name made of the lock file's hash: another version is another directory, and nothing installed is ever changed.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What npm needs.
const PACKAGE: [(&str, &str); 2] = [
    ("package.json", include_str!("../../socketio/package.json")),
    ("package-lock.json", include_str!("../../socketio/package-lock.json")),
];

/// What node runs.
const SCRIPTS: [(&str, &str); 3] = [
    ("common.mjs", include_str!("../../socketio/common.mjs")),
    ("server.mjs", include_str!("../../socketio/server.mjs")),
    ("ws.mjs", include_str!("../../socketio/ws.mjs")),
];

/// Installs the packages unless they are there already, and gives the directory with the servers' scripts. Blocks: the first
/// time for as long as npm takes, some seconds.
///
/// # Panics
/// When node or npm is missing or npm fails; the message says what to do.
pub fn ensure_installed() -> PathBuf {
    let below = build_directory();
    fs::create_dir_all(&below).expect("the build directory is writable");
    let packages = below.join(format!("socketio-{:016x}", hash_of(&PACKAGE)));
    let lock = File::create(packages.with_extension("lock")).expect("the build directory is writable");
    lock.lock().expect("a file of one's own can be locked");
    let done = packages.join("installed");
    if !done.exists() {
        write_all(&packages, &PACKAGE);
        install(&packages);
        File::create(done).expect("the build directory is writable");
    }
    // Below the packages, so that node finds them, and under a name of their own, so that no running server loses its script.
    let scripts = packages.join(format!("scripts-{:016x}", hash_of(&SCRIPTS)));
    if !scripts.join(SCRIPTS[SCRIPTS.len() - 1].0).exists() {
        write_all(&scripts, &SCRIPTS);
    }
    scripts
}

fn install(packages: &Path) {
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(packages);
    let output = npm.output().unwrap_or_else(|error| {
        panic!(
            "npm cannot be started ({error}): the tests with a real Socket.IO server need Node.js 18 or later with npm"
        )
    });
    assert!(
        output.status.success(),
        "npm ci failed in {} ({}); it needs the npm registry once:\n{}",
        packages.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// `tmp` in the directory that this program was built into. Cargo puts tests below `<profile>/deps` there, and examples and
/// benchmarks below their like.
fn build_directory() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    let of_cargo = program.ancestors().find(|directory| directory.ends_with("deps") || directory.ends_with("examples"));
    of_cargo
        .and_then(|directory| directory.parent()?.parent())
        .map_or_else(std::env::temp_dir, |built| built.join("tmp"))
}

fn write_all(directory: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(directory).expect("the build directory is writable");
    for (name, text) in files {
        fs::write(directory.join(name), text).expect("the build directory is writable");
    }
}

/// A compiler with another hash costs one more installation, nothing else.
fn hash_of(files: &[(&str, &str)]) -> u64 {
    let mut hasher = DefaultHasher::new();
    files.hash(&mut hasher);
    hasher.finish()
}
