//! The library must never be unmapped while its threads run. `dlclose`, which the VM calls when the last module that loaded the
//! library is purged, then leaves it where it is.

fn main() {
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if os == "macos" {
        // There `lifecycle::pin` does it; and the VM's functions are found in the running program.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-undefined,dynamic_lookup");
    } else if os != "windows" {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
