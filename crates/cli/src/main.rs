//! The command `handover`: parses, wires and exits. What it does is in `commands`.

mod args;
mod commands;
mod exit;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Cli::parse();
    match args.command {
        args::Command::Gateway(gateway) => commands::gateway::run(gateway, &args.diagnostics).into(),
        args::Command::Log(log) => commands::log::run(&log).into(),
        args::Command::Explain(explain) => commands::explain::run(&explain).into(),
    }
}
