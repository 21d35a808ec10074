//! Compiles the kernels as C++ for the processor.

fn main() {
    let kernels = std::path::Path::new("../kernels");
    println!("cargo::rerun-if-changed=kernels.cpp");
    println!("cargo::rerun-if-changed={}", kernels.display());
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        .include(kernels)
        .file("kernels.cpp")
        .compile("sotto_kernels");
}
