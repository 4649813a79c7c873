//! Linker arguments only; the header is checked in, and a test keeps it current.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let major = std::env::var("CARGO_PKG_VERSION_MAJOR").expect("cargo sets it");
    match std::env::var("CARGO_CFG_TARGET_OS").expect("cargo sets it").as_str() {
        "linux" | "android" | "freebsd" => {
            println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libmiamix.so.{major}");
            // Threads of the pool outlive a dlclose, and ONNX Runtime closes operator libraries.
            println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
        }
        "macos" | "ios" => println!("cargo:rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libmiamix.{major}.dylib"),
        _ => {}
    }
}
