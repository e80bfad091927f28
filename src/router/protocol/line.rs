//! Messages as lines of JSON.

use std::io;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, error::Category};
use tokio::io::AsyncRead;
use tokio_util::codec::{FramedRead, LinesCodec};

use super::unknown::Unknown;

/// Maximum length of a message to the router: a table of 100,000 instances has half of this.
pub(in crate::router) const MAX_TO_ROUTER: usize = 32 << 20;

/// Maximum length of a message to the server.
pub(in crate::router) const MAX_FROM_ROUTER: usize = 4 << 20;

/// The lines of a peer. A line that is too long ends them.
pub(in crate::router) type Lines<R> = FramedRead<R, LinesCodec>;

/// Reads lines of at most `max` bytes.
pub(in crate::router) fn lines<R: AsyncRead>(read: R, max: usize) -> Lines<R> {
    FramedRead::new(read, LinesCodec::new_with_max_length(max))
}

/// A message and the end of its line.
pub(in crate::router) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Reads a value. The fields that are not known are ignored.
pub(in crate::router) fn read<T: DeserializeOwned>(text: &str, unknown: &mut Unknown) -> serde_json::Result<T> {
    let mut fields = Vec::new();
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_ignored::deserialize(&mut json, |path| fields.push(path.to_string()))?;
    json.end()?;
    for path in &fields {
        unknown.field(path);
    }
    Ok(value)
}

/// Reads a message. What is not known in it is ignored; `None` if that is all of it. Fails if the line is not a message, of
/// whatever version: the sender is broken, and so may be the next line.
pub(in crate::router) fn decode<T: DeserializeOwned>(line: &str, unknown: &mut Unknown) -> io::Result<Option<T>> {
    let error = match read(line, unknown) {
        Ok(message) => return Ok(Some(message)),
        Err(error) => error,
    };
    match error.classify() {
        Category::Data => {}
        Category::Syntax | Category::Eof | Category::Io => return Err(io::Error::other(error)),
    }
    match serde_json::from_str(line).map_err(io::Error::other)? {
        Value::String(kind) => unknown.message(&kind, &error),
        Value::Object(message) if message.len() == 1 => {
            for kind in message.keys() {
                unknown.message(kind, &error);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            return Err(io::Error::other("the line is not a message"));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::{super::*, *};

    const TABLE: &str = r#"{"table":{"version":3,"listeners":[{"address":"[::]:80","protocol":"http","routes":[
        {"host":"*","path":"/","action":{"forward":"app/web/8080"}}]}],
        "services":[{"key":"app/web/8080","targets":[{"instance":"a","address":"10.0.0.1:8080"}]}]}}"#;

    fn table(text: &str, unknown: &mut Unknown) -> Table {
        match decode(text, unknown).unwrap() {
            Some(ToRouter::Table(table)) => table,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_known_message_is_read_without_a_loss_and_written_again() {
        let mut unknown = Unknown::default();
        let read = table(TABLE, &mut unknown);
        assert_eq!(unknown.count(), 0);
        assert_eq!(read.listeners[0].routes[0].action, Action::Forward("app/web/8080".parse().unwrap()));
        let line = encode(&ToRouter::Table(read.clone())).unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(table(std::str::from_utf8(&line).unwrap(), &mut unknown), read);
    }

    #[test]
    fn unknown_fields_actions_and_protocols_are_ignored() {
        let mut unknown = Unknown::default();
        let known = table(TABLE, &mut unknown);
        let more = TABLE
            .replace(r#""version":3"#, r#""version":3,"colour":{"a":[1]}"#)
            .replace(r#""host":"*""#, r#""host":"*","weight":1"#)
            .replace(r#""instance":"a""#, r#""instance":"a","zone":null"#);
        assert_eq!(table(&more, &mut unknown), known);
        assert_eq!(unknown.count(), 3);
        for action in [r#"{"redirect":{"status":308}}"#, r#""maintenance""#, "{}"] {
            let text = TABLE.replace(r#"{"forward":"app/web/8080"}"#, action);
            assert_eq!(table(&text, &mut unknown).listeners[0].routes[0].action, Action::Unknown, "{action}");
        }
        let listener = &table(&TABLE.replace(r#""http""#, r#""https""#), &mut unknown).listeners[0];
        assert_eq!(listener.protocol, Protocol::Unknown);
        let hello = r#"{"hello":{"version":9,"accepts":["applied","colour"],"name":"x"}}"#;
        let accepts = vec![MessageKind::Applied, MessageKind::Unknown];
        assert_eq!(decode(hello, &mut unknown).unwrap(), Some(ToRouter::Hello(Hello { version: 9, accepts })));
    }

    #[test]
    fn an_unknown_message_is_ignored_and_a_broken_line_is_an_error() {
        let mut unknown = Unknown::default();
        for (n, line) in (1..).zip([
            r#"{"certificates":{"a":1}}"#,
            r#""ping""#,
            r#"{"table":{"version":1}}"#,
            r#"{"table":{"version":"1","listeners":[],"services":[]}}"#,
        ]) {
            assert_eq!(decode::<ToRouter>(line, &mut unknown).unwrap(), None, "{line}");
            assert_eq!(unknown.count(), n, "{line}");
        }
        for line in ["", "nonsense", "{", r#"{"ping":1"#, r#"{"ping":1} x"#, "[]", "1", "{}", r#"{"ping":1,"pong":2}"#]
        {
            assert!(decode::<ToRouter>(line, &mut unknown).is_err(), "{line}");
        }
        assert_eq!(unknown.count(), 4);
    }
}

#[cfg(test)]
mod properties {
    use futures_util::StreamExt as _;

    use super::{
        super::{FromRouter, ToRouter, v1},
        *,
    };
    use crate::properties::{Arriving, block_on, check, cuts, text_near};

    const SAMPLES: [&str; 6] = [
        r#"{"table":{"version":3,"listeners":[{"address":"[::]:80","protocol":"http","routes":[{"host":"*","path":"/","action":{"forward":"app/web/8080"}}]}],"services":[{"key":"app/web/8080","targets":[{"instance":"a","address":"10.0.0.1:8080"}]}]}}"#,
        r#"{"table":{"version":3,"listeners":[{"address":"[::]:80","protocol":"http","routes":[{"host":"*","path":"/","certificate":null,"service":"app/web/8080"}]}],"services":[{"name":"app/web/8080","targets":[{"instance":"a","container":"b","release":1,"address":"10.0.0.1:8080"}]}],"hello":null}}"#,
        r#"{"hello":{"version":2,"accepts":["applied","drained","colour"]}}"#,
        r#"{"applied":{"version":3,"draining":["a"],"failed":[["[::]:80","in use"]],"ignored":7}}"#,
        r#"{"unanswered":{"service":"app/web/8080","status":502,"instance":null,"method":"GET","path":"/","request_id":"x","untold":1}}"#,
        r#"{"drained":"a"}"#,
    ];

    fn check_message<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>() {
        check(text_near(&SAMPLES), |line| {
            let mut unknown = Unknown::default();
            let Ok(Some(message)) = decode::<T>(&line, &mut unknown) else { return };
            let written = encode(&message).unwrap();
            let (end, written) = written.split_last().unwrap();
            assert!(*end == b'\n' && !written.contains(&b'\n'));
            let unknown = &mut Unknown::default();
            // An action that is not known has no other name.
            let read = decode::<T>(std::str::from_utf8(written).unwrap(), unknown).unwrap();
            assert_eq!(read, Some(message));
        });
    }

    #[test]
    fn messages_are_read_as_they_are_written() {
        check_message::<ToRouter>();
        check_message::<FromRouter>();
    }

    #[test]
    fn messages_of_version_1_are_read_as_they_are_written() {
        check(text_near(&SAMPLES), |line| {
            let Ok(message) = serde_json::from_str::<v1::ToRouter>(&line) else { return };
            let again = serde_json::from_slice::<v1::ToRouter>(&encode(&message).unwrap()).unwrap();
            assert_eq!(ToRouter::from(again), ToRouter::from(message));
        });
    }

    #[test]
    fn lines_are_the_same_however_they_arrive() {
        check((text_near(&["{}\n{\"a\":1}\r\n\n", "a\nlonger than all others\nb\n"]), cuts()), |(text, cuts)| {
            let read = |cuts: &[_]| {
                let mut lines = lines(Arriving::new(text.as_bytes(), cuts), 16);
                block_on(async {
                    let mut read = Vec::new();
                    while let Some(Ok(line)) = lines.next().await {
                        read.push(line);
                    }
                    read
                })
            };
            assert_eq!(read(&cuts), read(&[]));
        });
    }
}
