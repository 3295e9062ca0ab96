//! The binary: run, print the error chain, return an exit code.

fn main() -> std::process::ExitCode {
    umbra::cli::main()
}
