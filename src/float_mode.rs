//! The floating-point mode of a thread: plans, masks and blends are computed in IEEE 754's default,
//! whatever the caller (a framework that flushes denormals, say) has set.

/// Sets round-to-nearest without flushing; puts the caller's mode back when dropped.
pub(crate) struct DefaultFloatMode {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    callers: u64,
}

#[cfg(target_arch = "x86_64")]
mod arch {
    use std::arch::asm;
    /// Round to nearest, no flushing, all exceptions masked.
    pub const DEFAULT: u64 = 0x1f80;
    pub fn get() -> u64 {
        let mut mode = 0u32;
        // SAFETY: stores the control register to a local.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mode, options(nostack, preserves_flags)) };
        u64::from(mode)
    }
    pub fn set(mode: u64) {
        let mode = mode as u32;
        // SAFETY: a value read by `get`, or DEFAULT, which is what Rust code expects. The statement is
        // not marked pure: memory operations, and so the results written, stay on their side of it.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const mode, options(nostack, preserves_flags)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod arch {
    use std::arch::asm;
    /// Round to nearest, no flushing, no traps.
    pub const DEFAULT: u64 = 0;
    pub fn get() -> u64 {
        let mode: u64;
        // SAFETY: reads a control register.
        unsafe { asm!("mrs {}, fpcr", out(reg) mode, options(nostack, preserves_flags)) };
        mode
    }
    pub fn set(mode: u64) {
        // SAFETY: a value read by `get`, or DEFAULT.
        unsafe { asm!("msr fpcr, {}", in(reg) mode, options(nostack, preserves_flags)) };
    }
}

impl DefaultFloatMode {
    pub fn enter() -> Self {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        {
            let callers = arch::get();
            arch::set(arch::DEFAULT);
            DefaultFloatMode { callers }
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        DefaultFloatMode {}
    }
}

impl Drop for DefaultFloatMode {
    fn drop(&mut self) {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        arch::set(self.callers);
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    fn denormals_survive_inside_and_the_callers_mode_comes_back() {
        let before = arch::get();
        arch::set(0x1f80 | 0x8040); // flush results, treat denormal inputs as zero
        let flushed = black_box(1e-38f32) * black_box(0.1);
        let kept = {
            let _mode = DefaultFloatMode::enter();
            black_box(1e-38f32) * black_box(0.1)
        };
        let after = arch::get();
        arch::set(before);
        assert_eq!(flushed, 0.0);
        assert!(kept > 0.0);
        // Bits 0 to 5 are sticky flags that arithmetic sets.
        assert_eq!(after & !0x3f, 0x1f80 | 0x8040);
    }
}
