//! Small text files that tell when they are damaged: a body, and its checksum in the last line.

/// Why a text is not what was written.
pub(crate) type Damage = &'static str;

/// A body with its checksum. Persisted: the form never changes.
pub(crate) fn seal(body: &str) -> String {
    let checksum = crc32fast::hash(body.as_bytes());
    format!("{body}checksum {checksum:08x}\n")
}

/// The body of what was sealed.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn open(bytes: &[u8]) -> Result<&str, Damage> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not text")?;
    let (body, checksum) = text.rsplit_once("checksum ").ok_or("no checksum")?;
    if checksum != format!("{:08x}\n", crc32fast::hash(body.as_bytes())) {
        return Err("the checksum does not match");
    }
    Ok(body)
}
