//! What the numbers were measured on.

use serde::Serialize;

/// Machine and versions.
#[derive(Debug, Serialize)]
pub struct Machine {
    pub cpu: String,
    /// That this process may use.
    pub cores: usize,
    /// Of the last level, as the system writes it.
    pub cache: Option<String>,
    pub simd: &'static str,
    pub system: String,
    pub miamix: &'static str,
    pub rustc: &'static str,
}

impl Machine {
    /// The machine this runs on.
    pub fn this() -> Self {
        Machine {
            cpu: cpu_model().unwrap_or_else(|| "unknown CPU".into()),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            cache: last_level_cache(),
            simd: miamix::simd::level_name(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            miamix: env!("CARGO_PKG_VERSION"),
            rustc: env!("MIAMIX_RUSTC"),
        }
    }
}

#[cfg(target_os = "macos")]
fn cpu_model() -> Option<String> {
    let output = std::process::Command::new("sysctl").args(["-n", "machdep.cpu.brand_string"]).output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

#[cfg(not(target_os = "macos"))]
fn cpu_model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn last_level_cache() -> Option<String> {
    let size = |level: u32| std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{level}/size"));
    Some(size(3).or_else(|_| size(2)).ok()?.trim().to_owned())
}
