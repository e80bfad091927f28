//! The static binary of build containers and app images: the library's module `lifecycle`.

use std::process::ExitCode;

fn main() -> ExitCode {
    paas::lifecycle::main(std::env::args_os())
}
