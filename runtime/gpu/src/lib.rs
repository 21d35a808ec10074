//! The scheme's engine on NVIDIA GPUs.
//!
//! [`Gpu`] is an [`Engine`](sotto_ckks::engine::Engine) of sotto-ckks over a [`Device`]: it computes what [`Cpu`](sotto_ckks::engine::Cpu)
//! computes, residue for residue. Kernels are CUDA C++ in `kernels/`, in a form that is C++ for a processor as well: the crate
//! sotto-gpu-host compiles them so, and compares every operation with sotto-ckks bit by bit, on machines that have no GPU.
//!
//! | file | what |
//! |---|---|
//! | `kernels/device.h`, `kernels/host.h` | what a kernel is, on either |
//! | `kernels/words.h` | residues |
//! | `kernels/ntt.cu` | transforms, the last stage of a division in them |
//! | `kernels/elementwise.cu` | operations on residues one by one |
//! | `kernels/keyswitch.cu` | base conversion, products with keys, sums of diagonals |
//! | `kernels/measure.cu` | what a card can do at best |
//!
//! Everything is launched in one order on one stream; what lies beside a card is copied to it on another, ahead of its use. Memory that is
//! dropped is given back behind what still uses it.
//!
//! [`Gpu::profile`] tells what is launched, kernel by kernel, with what it moves and multiplies at least; [`Gpu::rates`] what a card can do.

mod args;
mod cuda;
mod device;
mod diagonals;
mod engine;
mod keyswitch;
mod launch;
pub mod nvrtc;
mod poly;
mod profile;
mod sums;
mod tables;
mod work;

pub use cuda::{Cuda, Moment, Piece, Pinned};
pub use device::{Device, HEADERS, Kernel, Source};
pub use engine::Gpu;
pub use poly::{GpuBeside, GpuDiagonal, GpuDigits, GpuPoly};
pub use profile::{KernelFigure, Rates};
pub use work::Work;
