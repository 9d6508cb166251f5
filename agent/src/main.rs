//! The program `ioto`: its command line over the library.

mod cli;

/// Threads for what can only block, such as name look-ups. The default of 500 would be a device's end; crate `blocking`, under
/// smol, takes another number only from the environment.
const BLOCKING_THREADS: &str = "4";

fn main() -> std::process::ExitCode {
    limit_blocking_threads();
    cli::main()
}

#[allow(unsafe_code, reason = "setting a variable of the environment")]
fn limit_blocking_threads() {
    // SAFETY: no other thread is there yet that could read the environment meanwhile.
    unsafe { std::env::set_var("BLOCKING_MAX_THREADS", BLOCKING_THREADS) };
}
