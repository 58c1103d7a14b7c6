//! The peak resident memory of a child process, from the kernel's own account.

use std::fs;

/// Peak resident set size of `pid` in bytes, since it started or since [`reset_peak_memory`] (`VmHWM` in proc(5)).
///
/// # Panics
/// When the process is gone.
#[must_use]
pub fn peak_memory(pid: u32) -> u64 {
    status_bytes(pid, "VmHWM:")
}

/// Resident set size of `pid` in bytes now (`VmRSS` in proc(5)).
///
/// # Panics
/// When the process is gone.
#[must_use]
pub fn idle_memory(pid: u32) -> u64 {
    status_bytes(pid, "VmRSS:")
}

/// Sets the peak of `pid` back to what it has now (`5` to `clear_refs`, proc(5)).
///
/// # Panics
/// When the process is gone or belongs to another user.
pub fn reset_peak_memory(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("the process runs and is ours");
}

fn status_bytes(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with(field)).expect("Linux shows this field for every process");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("the field is a number of kB");
    kib * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_sees_memory_that_was_given_back() {
        let own = std::process::id();
        reset_peak_memory(own);
        let before = peak_memory(own);
        drop(std::hint::black_box(vec![1_u8; 64 * 1024 * 1024]));
        assert!(peak_memory(own) >= before + 60 * 1024 * 1024);
    }
}
