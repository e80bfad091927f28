//! Files that operations write.

use std::io;

use axum::{body::Body, response::Response};
use futures_util::{StreamExt as _, stream};

use super::{
    problem::{Problem, lost},
    response::typed,
    started::Started,
};
use crate::engine::Printed;

/// The output of an operation, as a file. A failure before its first byte is a problem; later, the response breaks off.
pub(super) async fn download(started: Started) -> Result<Response, Problem> {
    let Started { lines, result, output, hangup } = started;
    drop(lines);
    let mut output = output.ok_or_else(lost)?;
    let guard = hangup.drop_guard();
    let first = loop {
        match output.recv().await {
            Some(Printed::Stdout(bytes)) => break Some(bytes),
            Some(Printed::Stderr(_)) => {}
            None => break None,
        }
    };
    let Some(first) = first else {
        result.await.map_err(|_| lost())??;
        return Ok(typed(Body::empty(), "application/octet-stream"));
    };
    let pieces = stream::poll_fn(move |context| output.poll_recv(context)).filter_map(|piece| {
        std::future::ready(match piece {
            Printed::Stdout(bytes) => Some(Ok(bytes)),
            Printed::Stderr(_) => None,
        })
    });
    let end = stream::once(result).filter_map(|ended| {
        std::future::ready(match ended {
            Ok(Ok(_)) => None,
            Ok(Err(failure)) => Some(Err(io::Error::other(failure.to_string()))),
            Err(_) => Some(Err(io::Error::other("the operation was lost"))),
        })
    });
    let body = stream::once(std::future::ready(Ok(first))).chain(pieces).chain(end).map(move |piece| {
        let _ = &guard;
        piece
    });
    Ok(typed(Body::from_stream(body), "application/octet-stream"))
}
