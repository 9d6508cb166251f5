//! Frames: a length of four bytes, big end first, and so many bytes.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The largest payload of a frame, in bytes. The largest request, a network profile, is below 2 KB.
pub const MAX_FRAME: usize = 16 * 1024;

/// Why a frame could not be read.
#[derive(Debug)]
pub enum FrameError {
    /// The other side closed the connection without a byte.
    Closed,
    /// The frame says that it is empty or larger than [`MAX_FRAME`].
    Length(u32),
    /// The connection ended within the frame.
    Truncated,
    /// The frame did not arrive in time.
    Slow,
    /// The connection failed.
    Io(io::Error),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection was closed without a frame"),
            Self::Length(length) => write!(f, "a frame of {length} bytes; 1 to {MAX_FRAME} are allowed"),
            Self::Truncated => f.write_str("the connection ended within a frame"),
            Self::Slow => f.write_str("the frame did not arrive in time"),
            Self::Io(error) => write!(f, "the connection failed: {error}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Reads one frame. Nothing is reserved for a length that is not allowed.
pub fn read_frame(stream: &mut impl Read) -> Result<Vec<u8>, FrameError> {
    let mut length = [0; 4];
    match fill(stream, &mut length)? {
        0 => return Err(FrameError::Closed),
        4 => {}
        _ => return Err(FrameError::Truncated),
    }
    let length = u32::from_be_bytes(length);
    let size = usize::try_from(length).ok().filter(|size| (1..=MAX_FRAME).contains(size));
    let mut payload = vec![0; size.ok_or(FrameError::Length(length))?];
    match fill(stream, &mut payload)? == payload.len() {
        true => Ok(payload),
        false => Err(FrameError::Truncated),
    }
}

/// Reads until the buffer is full or the stream ends; how much was read.
fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> Result<usize, FrameError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Err(FrameError::Slow),
                _ => return Err(FrameError::Io(error)),
            },
        }
    }
    Ok(filled)
}

/// Writes one frame, in one piece.
///
/// # Errors
/// `InvalidInput` for a payload that is empty or larger than [`MAX_FRAME`]; what the stream says otherwise.
pub fn write_frame(stream: &mut impl Write, payload: &[u8]) -> io::Result<()> {
    if payload.is_empty() || payload.len() > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a frame must have 1 to 16384 bytes"));
    }
    let mut frame = Vec::with_capacity(4 + payload.len());
    frame.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    frame.extend_from_slice(payload);
    stream.write_all(&frame)?;
    stream.flush()
}

/// A connection with one time limit for all that is read and written through it, however slowly the bytes drip.
#[derive(Debug)]
pub struct Timed<'a> {
    stream: &'a UnixStream,
    until: Instant,
}

impl<'a> Timed<'a> {
    /// From now on.
    pub fn new(stream: &'a UnixStream, limit: Duration) -> Self {
        Self { stream, until: Instant::now() + limit }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        match self.until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(Some(left)),
        }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        (&mut &*self.stream).read(buffer)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        (&mut &*self.stream).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_as_it_was_written() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, b"{}").unwrap();
        assert_eq!(bytes, b"\0\0\0\x02{}");
        assert_eq!(read_frame(&mut bytes.as_slice()).unwrap(), b"{}");
        assert!(write_frame(&mut bytes, b"").is_err());
        assert!(write_frame(&mut bytes, &vec![b' '; MAX_FRAME + 1]).is_err());
    }

    #[test]
    fn bad_lengths_and_torn_frames_are_told_apart() {
        assert!(matches!(read_frame(&mut &b""[..]), Err(FrameError::Closed)));
        assert!(matches!(read_frame(&mut &b"\0\0"[..]), Err(FrameError::Truncated)));
        assert!(matches!(read_frame(&mut &b"\0\0\0\x03{}"[..]), Err(FrameError::Truncated)));
        assert!(matches!(read_frame(&mut &b"\0\0\0\0"[..]), Err(FrameError::Length(0))));
        assert!(matches!(read_frame(&mut &b"\0\0\x40\x01"[..]), Err(FrameError::Length(16385))));
        assert!(matches!(read_frame(&mut &b"\xff\xff\xff\xff{}"[..]), Err(FrameError::Length(u32::MAX))));
    }

    #[test]
    fn dripping_bytes_do_not_prolong_the_time() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let drip = std::thread::spawn(move || {
            for _ in 0..100 {
                if (&mut &theirs).write_all(b"\0").is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(30));
            }
        });
        let begin = Instant::now();
        let mut buffer = [0; 1000];
        let error = fill(&mut Timed::new(&ours, Duration::from_millis(200)), &mut buffer).unwrap_err();
        assert!(matches!(error, FrameError::Slow));
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        drop(ours);
        drip.join().unwrap();
    }
}
