//! `bt-fast`: see `bt_fast::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    bt_fast::cli::run(std::env::args_os()).into()
}
