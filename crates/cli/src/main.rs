//! The command `handover`: parses, wires and exits. What it does is in `commands`.

mod args;
mod commands;
mod diagnostics;
mod exit;
mod terminal;

use std::process::ExitCode;

use handover_gateway::config::ConfigErrors;

fn main() -> ExitCode {
    let args::Cli { command, diagnostics } = match args::Cli::read() {
        Ok(args) => args,
        Err(error) => return diagnostics::end_with(&error).into(),
    };
    // The gateway tells a wrong level together with what else is wrong.
    let level = diagnostics.filter().map_err(|error| ConfigErrors(vec![error]));
    match (command, level) {
        (args::Command::Gateway(gateway), _) => commands::gateway::run(gateway, &diagnostics).into(),
        (_, Err(errors)) => diagnostics.log_format.refuse(&errors).into(),
        (args::Command::Check(check), Ok(filter)) => {
            diagnostics.start(filter);
            commands::check::run(&check, diagnostics.log_format).into()
        }
        (args::Command::Request(request), Ok(filter)) => {
            diagnostics.start(filter);
            commands::request::run(&request, diagnostics.log_format).into()
        }
        (args::Command::Log(log), Ok(_)) => commands::log::run(&log).into(),
        (args::Command::Explain(explain), Ok(_)) => commands::explain::run(&explain).into(),
    }
}
