//! Answers that come compressed, from real encoders over real sockets: decoded, left alone, or broken.
#![cfg(all(feature = "gzip", feature = "br", feature = "zstd"))]

use std::time::Duration;

use async_compression::Level;
use async_compression::tokio::write::{BrotliEncoder, GzipEncoder, ZstdEncoder};
use handover_client::{Client, Error, Policy};
use handover_testkit::{Act, Answer, Body, End, Origin, bounded};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

/// Largest piece of a decoded body, in bytes, as its documentation says.
const PIECE_BYTES_MAX: usize = 16 * 1024;

fn client(origin: &Origin) -> Client {
    Client::builder().endpoints([origin.url()]).policy(Policy::rotation()).no_proxy().build().expect("valid")
}

/// 100 KB that compress, but not to nothing.
fn content() -> Vec<u8> {
    (0..20_000_u32).flat_map(|at| at.wrapping_mul(2_654_435_761).to_string().into_bytes()).take(100_000).collect()
}

async fn encoded(coding: &str, content: &[u8]) -> Vec<u8> {
    async fn write(mut encoder: impl AsyncWrite + Unpin, content: &[u8]) {
        encoder.write_all(content).await.expect("to memory");
        encoder.shutdown().await.expect("to memory");
    }
    let mut out = Vec::new();
    match coding {
        "gzip" | "x-gzip" => write(GzipEncoder::new(&mut out), content).await,
        // Its best takes minutes without optimisation.
        "br" => write(BrotliEncoder::with_quality(&mut out, Level::Fastest), content).await,
        "zstd" => write(ZstdEncoder::new(&mut out), content).await,
        other => panic!("no encoder for {other}"),
    }
    out
}

/// A server that answers this body under these codings, in chunks.
async fn chunked(codings: &'static str, body: Vec<u8>) -> Origin {
    Origin::scripted(move |_| {
        let answer = Answer::ok("").body(Body::Chunked(body.clone().into(), vec![("x-sum", "7")]));
        Act::Answer(answer.header("content-encoding", codings))
    })
    .await
}

const CODINGS: [&str; 3] = ["gzip", "br", "zstd"];

#[tokio::test]
async fn each_coding_is_decoded_and_its_fields_are_gone() {
    bounded(async {
        for coding in ["gzip", "br", "zstd", "X-GZIP"] {
            let body = encoded(&coding.to_ascii_lowercase(), &content()).await;
            assert!(body.len() < content().len());
            let origin = Origin::scripted(move |_| {
                Act::Answer(Answer::ok(body.clone()).header("content-encoding", coding).header("x-kept", "1"))
            })
            .await;
            let client = client(&origin);
            for _ in 0..2 {
                let answer = client.get("/").send().await.expect("answered");
                let fields = ["content-encoding", "content-length", "x-kept"].map(|n| answer.headers().contains_key(n));
                assert_eq!((fields, answer.content_length()), ([false, false, true], None), "{coding}");
                assert_eq!(answer.bytes().await.expect("whole"), content(), "{coding}");
            }
            assert_eq!(origin.accepted(), 1, "{coding}: the connection was not used again");
            assert_eq!(origin.requests()[0].head.header("accept-encoding"), Some("zstd, br, gzip"));
        }
    })
    .await;
}

#[tokio::test]
async fn several_codings_are_undone_from_the_last_and_an_unknown_one_stays() {
    bounded(async {
        let once = encoded("br", &content()).await;
        let twice = encoded("gzip", &once).await;
        let origin = chunked("br, identity, GZip", twice.clone()).await;
        let answer = client(&origin).get("/").send().await.expect("answered");
        assert_eq!(answer.bytes().await.expect("whole"), content());

        let origin = chunked("rot13, gzip", twice.clone()).await;
        let answer = client(&origin).get("/").send().await.expect("answered");
        assert_eq!(answer.headers()["content-encoding"], "rot13");
        assert_eq!(answer.bytes().await.expect("whole"), once);

        let origin = chunked("gzip, rot13", twice.clone()).await;
        let answer = client(&origin).get("/").send().await.expect("answered");
        assert_eq!(answer.headers()["content-encoding"], "gzip, rot13");
        assert_eq!(answer.bytes().await.expect("whole"), twice);
    })
    .await;
}

#[tokio::test]
async fn a_callers_own_accept_encoding_stays_and_a_part_is_not_asked_for_compressed() {
    bounded(async {
        let origin = Origin::answering("hello").await;
        let client = client(&origin);
        client.get("/").header("accept-encoding", "identity").send().await.expect("answered");
        client.get("/").header("range", "bytes=0-1").send().await.expect("answered");
        let seen = origin.requests();
        assert_eq!(seen[0].head.all("accept-encoding"), ["identity"]);
        assert_eq!(seen[1].head.header("accept-encoding"), None);
    })
    .await;
}

#[tokio::test]
async fn answers_without_content_and_parts_are_left_alone() {
    bounded(async {
        let part = encoded("gzip", &content()).await[100..200].to_vec();
        let of_part = part.clone();
        let origin = Origin::scripted(move |arrival| {
            let status = arrival.head.target().trim_start_matches('/').parse().expect("a status");
            let body = if status == 206 { of_part.clone() } else { Vec::new() };
            Act::Answer(Answer::status(status, body).header("content-encoding", "gzip"))
        })
        .await;
        let client = client(&origin);
        let answer = client.get("/206").send().await.expect("answered");
        assert_eq!(answer.headers()["content-encoding"], "gzip");
        assert_eq!(answer.bytes().await.expect("whole"), part);
        for path in ["/204", "/304", "/200"] {
            let answer = client.get(path).send().await.expect("answered");
            assert_eq!(answer.headers()["content-encoding"], "gzip", "{path}");
            assert_eq!(answer.bytes().await.expect("whole"), "", "{path}");
        }
        let answer = client.head("/200").send().await.expect("answered");
        assert_eq!(answer.headers()["content-encoding"], "gzip");
        assert_eq!(answer.bytes().await.expect("whole"), "");
        // An empty body of unknown length is empty in every coding.
        let origin = chunked("gzip", Vec::new()).await;
        let answer = self::client(&origin).get("/").send().await.expect("answered");
        assert_eq!(answer.bytes().await.expect("whole"), "");
    })
    .await;
}

async fn read(origin: &Origin) -> Error {
    let answer = client(origin).get("/").send().await.expect("the head came");
    answer.bytes().await.expect_err("the body is broken")
}

#[tokio::test]
async fn compressed_content_that_is_cut_or_wrong_is_a_body_that_broke_off() {
    bounded(async {
        for coding in CODINGS {
            let whole = encoded(coding, &content()).await;
            for cut in [1, whole.len() / 2, whole.len() - 1] {
                // The transfer is whole, the content is not.
                let error = read(&chunked(coding, whole[..cut].to_vec()).await).await;
                assert!(
                    error.is_body() && error.status().is_some_and(|status| status == 200),
                    "{coding} {cut}: {error}"
                );
            }
            let mut wrong = whole.clone();
            wrong[0] ^= 0xff;
            let error = read(&chunked(coding, wrong).await).await;
            assert!(error.is_body(), "{coding}: {error}");
            // The connection ends in the middle.
            let origin = Origin::scripted(move |_| {
                let answer = Answer::ok(whole.clone()).header("content-encoding", coding);
                Act::Answer(answer.cut_after(1000, End::Fin))
            })
            .await;
            let error = read(&origin).await;
            assert!(error.is_body(), "{coding}: {error}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_lies_behind_the_content_is_no_part_of_it() {
    bounded(async {
        for coding in CODINGS {
            let whole = encoded(coding, &content()).await;
            let (answer, writer) = Answer::stream();
            let answer = std::sync::Mutex::new(Some(answer.header("content-encoding", coding)));
            let origin = Origin::scripted(move |_| {
                Act::Answer(answer.lock().expect("nobody panics with it").take().expect("one request"))
            })
            .await;
            let mut answer = client(&origin).get("/").send().await.expect("answered");
            writer.send(whole);
            let mut length = 0;
            while length < content().len() {
                length += answer.chunk().await.expect("good so far").expect("more").len();
            }
            writer.send("and more");
            drop(writer);
            let error = answer.chunk().await.expect_err("it is no part of the content");
            assert!(error.is_body(), "{coding}: {error}");
        }
    })
    .await;
}

#[tokio::test]
async fn members_and_frames_behind_one_another_are_one_content_and_trailers_come_through() {
    bounded(async {
        for coding in ["gzip", "zstd"] {
            let (mut body, second) = (encoded(coding, b"one ").await, encoded(coding, b"two").await);
            body.extend(second);
            let answer = client(&chunked(coding, body).await).get("/").send().await.expect("answered");
            let (_, body) = answer.into_parts();
            let collected = body.collect().await.expect("whole");
            assert_eq!(
                collected.trailers().and_then(|trailers| trailers.get("x-sum")).map(|sum| sum == "7"),
                Some(true)
            );
            assert_eq!(collected.to_bytes(), "one two", "{coding}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_that_grows_without_end_comes_in_small_pieces() {
    bounded(async {
        const GROWN: usize = 4 * 1024 * 1024;
        for coding in CODINGS {
            let body = encoded(coding, &vec![0; GROWN]).await;
            assert!(body.len() < GROWN / 100, "{coding}: {}", body.len());
            let mut answer = client(&chunked(coding, body).await).get("/").send().await.expect("answered");
            let mut read = 0;
            while let Some(piece) = answer.chunk().await.expect("good") {
                assert!(piece.len() <= PIECE_BYTES_MAX, "{coding}: {}", piece.len());
                read += piece.len();
            }
            assert_eq!(read, GROWN, "{coding}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_window_that_is_larger_than_the_standard_allows_is_refused() {
    bounded(async {
        use async_compression::zstd::CParameter;
        for (log, is_good) in [(23, true), (24, false)] {
            let mut out = Vec::new();
            let mut encoder =
                ZstdEncoder::with_quality_and_params(&mut out, Level::Fastest, &[CParameter::window_log(log)]);
            // Written piece by piece, so that the encoder does not know that less would do.
            for piece in content().chunks(16 * 1024) {
                encoder.write_all(piece).await.expect("to memory");
            }
            encoder.shutdown().await.expect("to memory");
            let origin = chunked("zstd", out).await;
            let answer = client(&origin).get("/").send().await.expect("answered");
            assert_eq!(answer.bytes().await.is_ok(), is_good, "{log}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_compressed_body_that_is_silent_is_a_timeout() {
    bounded(async {
        let (answer, writer) = Answer::stream();
        let answer = std::sync::Mutex::new(Some(answer.header("content-encoding", "gzip")));
        let origin = Origin::scripted(move |_| {
            Act::Answer(answer.lock().expect("nobody panics with it").take().expect("one request"))
        })
        .await;
        let client = Client::builder().endpoints([origin.url()]).no_proxy();
        let client = client.body_idle_timeout(Duration::from_millis(100)).build().expect("valid");
        let answer = client.get("/").send().await.expect("answered");
        writer.send(encoded("gzip", &content()).await[..100].to_vec());
        let error = answer.bytes().await.expect_err("nothing more comes");
        assert!(error.is_timeout() && error.is_body(), "{error}");
        drop(writer);
    })
    .await;
}
