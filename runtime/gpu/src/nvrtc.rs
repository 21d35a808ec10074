//! Kernels compiled when they are needed, for the card that is there.

use crate::device::{HEADERS, Source};
use cudarc::nvrtc::{result, sys};
use std::ffi::{CStr, CString, c_char};
use std::io::Write;
use std::path::PathBuf;

/// What compiling yields.
pub struct Compiled {
    /// The machine code of all the source's kernels.
    pub cubin: Vec<u8>,
    /// What the compiler said: registers and spills of every kernel, where it was asked.
    pub log: String,
}

/// Whether the compiler's library is there.
pub fn present() -> bool {
    // SAFETY: looks for a library by its names, and loads it as any use would.
    unsafe { sys::is_culib_present() }
}

/// Compiles a source for an architecture, as in `sm_90`.
///
/// # Errors
/// If the compiler's library is missing, or it refuses: its log.
pub fn compile(source: Source, arch: &str) -> Result<Compiled, String> {
    if !present() {
        return Err(
            "NVRTC, which compiles kernels, is not on this machine: install CUDA's, or \
            `pip install nvidia-cuda-nvrtc-cu12` and put its lib folder into LD_LIBRARY_PATH"
                .into(),
        );
    }
    let text = |s: &str| CString::new(s).map_err(|e| e.to_string());
    let (code, name) = (text(source.text())?, text(source.name())?);
    let headers: Vec<(CString, CString)> = HEADERS
        .iter()
        .map(|(name, body)| Ok((text(name)?, text(body)?)))
        .collect::<Result<_, String>>()?;
    let names: Vec<*const c_char> = headers.iter().map(|(name, _)| name.as_ptr()).collect();
    let bodies: Vec<*const c_char> = headers.iter().map(|(_, body)| body.as_ptr()).collect();
    let mut program = std::ptr::null_mut();
    // SAFETY: every pointer is to a string, or to as many as stated, that outlives the program.
    unsafe {
        sys::nvrtcCreateProgram(
            &mut program,
            code.as_ptr(),
            name.as_ptr(),
            names.len() as i32,
            bodies.as_ptr(),
            names.as_ptr(),
        )
    }
    .result()
    .map_err(|e| format!("NVRTC: {e:?}"))?;
    let compiled = Program(program).compile(source, arch);
    drop((headers, code, name));
    compiled
}

struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by `nvrtcCreateProgram`, and destroyed once.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

impl Program {
    fn compile(&self, source: Source, arch: &str) -> Result<Compiled, String> {
        let options = [
            format!("--gpu-architecture={arch}"),
            "--std=c++17".into(),
            "--ptxas-options=--verbose".into(),
        ];
        // SAFETY: the program is alive, for this and for what follows.
        let done = unsafe { result::compile_program(self.0, &options) };
        let log = unsafe { result::get_program_log(self.0) };
        let log = log.map_err(|e| format!("NVRTC: {e:?}"))?;
        let log: Vec<u8> = log.into_iter().map(|c| c as u8).collect();
        let log = CStr::from_bytes_until_nul(&log).map_or_else(
            |_| String::new(),
            |log| log.to_string_lossy().trim().to_owned(),
        );
        let failed = |e| format!("NVRTC, {} for {arch}: {e:?}\n{log}", source.name());
        done.map_err(failed)?;
        let mut size = 0;
        // SAFETY: as above; the size is written.
        unsafe { sys::nvrtcGetCUBINSize(self.0, &mut size) }
            .result()
            .map_err(failed)?;
        let mut cubin = vec![0; size];
        // SAFETY: as above; as many bytes are written as the compiler has just said.
        unsafe { sys::nvrtcGetCUBIN(self.0, cubin.as_mut_ptr().cast()) }
            .result()
            .map_err(failed)?;
        Ok(Compiled { cubin, log })
    }
}

/// A source's machine code: from the disk where it was compiled before, else compiled, and kept. Files are named by the sources' text,
/// the architecture and the compiler's version, and begin with the digest of the rest: what is damaged is compiled again.
///
/// # Errors
/// As [`compile`].
pub fn cached(source: Source, arch: &str) -> Result<Vec<u8>, String> {
    let kept = cache_file(source, arch);
    let found = kept.as_ref().and_then(|path| std::fs::read(path).ok());
    if let Some(cubin) = found.and_then(|bytes| unsealed(&bytes)) {
        return Ok(cubin);
    }
    let cubin = compile(source, arch)?.cubin;
    if let Some(path) = kept {
        // a cache that cannot be written costs a compilation next time
        let _ = keep(&path, &cubin);
    }
    Ok(cubin)
}

/// Bytes of the digest before the machine code.
const SEAL: usize = 32;

/// The machine code of a file of the cache, if it is whole.
fn unsealed(bytes: &[u8]) -> Option<Vec<u8>> {
    let (seal, cubin) = bytes.split_at_checked(SEAL)?;
    (blake3::hash(cubin).as_bytes() == seal).then(|| cubin.to_vec())
}

fn keep(path: &std::path::Path, cubin: &[u8]) -> std::io::Result<()> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(blake3::hash(cubin).as_bytes())?;
    file.write_all(cubin)?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// `sotto/kernels` in the user's cache folder; none where the environment names neither that nor a home.
fn cache_file(source: Source, arch: &str) -> Option<PathBuf> {
    // what is not absolute is to be ignored (XDG base directories)
    let folder = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    let mut hash = blake3::Hasher::new();
    for part in [source.text(), arch, &version()]
        .into_iter()
        .chain(HEADERS.iter().map(|(_, text)| *text))
    {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let name = format!("{}-{arch}.cubin", hash.finalize().to_hex());
    Some(cache.join("sotto").join("kernels").join(name))
}

fn version() -> String {
    if !present() {
        return "none".into();
    }
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both numbers are written.
    let _ = unsafe { sys::nvrtcVersion(&mut major, &mut minor) };
    format!("{major}.{minor}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_machine_code_is_no_machine_code() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kernels").join("k.cubin");
        keep(&path, b"\x7fELF and more").unwrap();
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(unsealed(&whole).unwrap(), b"\x7fELF and more");
        for cut in 0..whole.len() {
            assert!(unsealed(&whole[..cut]).is_none(), "{cut} bytes");
        }
        let mut flipped = whole.clone();
        flipped[SEAL] ^= 1;
        assert!(unsealed(&flipped).is_none());
    }
}
