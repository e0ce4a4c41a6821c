//! The hash kernels as the user meets them: the environment variable that restricts them, and the log.

use ringtide_hasher::{Dispatcher, KERNEL_VARIABLE, Kernel};

use crate::exit::Failure;

/// Refuses names that mean nothing, or nothing on this CPU, which the library would pass over; then logs what is used.
pub(crate) fn check() -> Result<(), Failure> {
    if let Some(names) = std::env::var_os(KERNEL_VARIABLE) {
        check_names(&names.to_string_lossy())
            .map_err(|error| Failure::usage(format_args!("{KERNEL_VARIABLE} in the environment: {error}")))?;
    }
    // Trying the kernels takes a while, which nobody should wait for who does not hash.
    if tracing::enabled!(tracing::Level::DEBUG) {
        tracing::debug!("hash kernels: {}", Dispatcher::current());
    }
    Ok(())
}

fn check_names(names: &str) -> Result<(), String> {
    if names.is_empty() || names == "auto" {
        return Ok(());
    }
    names.split(',').try_for_each(|name| {
        let kernel: Kernel = name.trim().parse().map_err(|error| format!("{error}; or auto"))?;
        match Kernel::available().any(|available| available == kernel) {
            true => Ok(()),
            false => Err(format!("this CPU cannot run {kernel}")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kernels_with_commas_between_them() {
        for names in ["", "auto", "scalar", "crate, scalar"] {
            assert_eq!(check_names(names), Ok(()), "{names:?}");
        }
        for names in ["avx9", "crate,", "auto,crate"] {
            let error = check_names(names).expect_err(names);
            assert!(error.contains("no kernel is called") && error.contains("avx512-x16"), "{error}");
        }
    }
}
