//! A large Erlang binary that the engine sends from where it lies, kept alive by an environment of its own.

use bytes::Bytes;
use rustler::{Binary, NifResult, OwnedEnv, Term};

struct HeldBinary {
    /// Owns a reference to the binary; freed with this.
    _env: OwnedEnv,
    data: *const u8,
    len: usize,
}

// SAFETY: the bytes are immutable and stay where they are as long as `_env` refers to the binary, which nobody else touches; an
// environment that belongs to no process may be freed by any thread.
unsafe impl Send for HeldBinary {}
// SAFETY: as above; nothing can be changed through a shared reference.
unsafe impl Sync for HeldBinary {}

impl AsRef<[u8]> for HeldBinary {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `data` and `len` are what `enif_inspect_binary` gave for a binary that `_env` keeps alive. Inspecting also ends
        // the VM's right to move a binary that is still being appended to.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

/// The bytes of `term`, a binary, without copying them.
pub(crate) fn hold(term: Term<'_>) -> NifResult<Bytes> {
    let env = OwnedEnv::new();
    let saved = env.save(term);
    let (data, len) = env.run(|inner| {
        let binary: Binary<'_> = saved.load(inner).decode()?;
        Ok::<_, rustler::Error>((binary.as_slice().as_ptr(), binary.len()))
    })?;
    Ok(Bytes::from_owner(HeldBinary { _env: env, data, len }))
}
