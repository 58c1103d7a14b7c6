//! scratch
#![allow(missing_docs, clippy::all, reason = "scratch")]
use handover_gateway::{
    Gateway,
    config::{Config, Flags, Sources},
};
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let mut f = Flags::default();
    let mut i = 1;
    while i < a.len() {
        match a[i].as_str() {
            "--listen" => f.listen = Some(a[i + 1].clone()),
            "--origin" => f.origins.push(a[i + 1].clone()),
            "--node" => f.nodes.push(a[i + 1].clone()),
            "--max-retries" => f.max_retries = Some(a[i + 1].clone()),
            _ => {}
        }
        i += 2;
    }
    let c = Config::load(Sources { file: None, env: vec![], flags: f });
    let c = match c {
        Ok(c) => c,
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(2)
        }
    };
    let r = Gateway::start(c).unwrap_or_else(|e| panic!("{e}"));
    println!("listening on {}", r.local_addr());
    loop {
        std::thread::park();
    }
}
