//! Writes a small message of several pieces with one plain `send`.
//!
//! HTTP gives its head and a short body as separate pieces. Gathering them in the kernel (`writev`) costs more than copying
//! a few hundred bytes here and sending them as one.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// Up to this many bytes are copied together: the size of an ordinary head with a short body; it lies on the stack.
const SMALL_BYTES: usize = 2048;

/// Writes the pieces, as `poll_write_vectored` does.
pub fn poll_write<S: AsyncWrite>(
    stream: Pin<&mut S>,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    if let [piece] = pieces {
        return stream.poll_write(cx, piece);
    }
    let mut small = [0u8; SMALL_BYTES];
    let mut length = 0;
    for piece in pieces {
        let Some(room) = small.get_mut(length..length + piece.len()) else {
            return stream.poll_write_vectored(cx, pieces);
        };
        room.copy_from_slice(piece);
        length += piece.len();
    }
    stream.poll_write(cx, &small[..length])
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn pieces_arrive_whole_and_in_order_whatever_their_size() {
        for sizes in [vec![], vec![5], vec![3, 4], vec![2000, 48], vec![2000, 49], vec![1, 0, 5000, 2]] {
            let data: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(i, n)| vec![i as u8 + 1; *n]).collect();
            let (mut near, mut far) = tokio::io::duplex(1 << 16);
            let mut rest: Vec<u8> = data.concat();
            let written = std::future::poll_fn(|cx| {
                let pieces: Vec<IoSlice<'_>> = data.iter().map(|d| IoSlice::new(d)).collect();
                poll_write(Pin::new(&mut near), cx, &pieces)
            })
            .await
            .unwrap();
            rest.truncate(written);
            assert!(written > 0 || sizes.iter().sum::<usize>() == 0, "{sizes:?}");
            drop(near);
            let mut got = Vec::new();
            far.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, rest, "{sizes:?}");
        }
    }
}
