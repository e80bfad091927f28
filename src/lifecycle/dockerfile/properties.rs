use std::collections::BTreeMap;

use super::{instructions::Dockerfile, printed, printed::Printed};
use crate::{
    lifecycle::output::Output,
    properties::{assert_message, check, text_near},
};

const SAMPLES: [&str; 5] = [
    "# syntax=x\n# escape=`\nARG TAG=1\nFROM --platform=linux/amd64 r.example:5000/base:${TAG:-2} AS one\nRUN a `\n  b\n",
    "FROM a\nCOPY --link --chmod=755 <<-EOF \"<<'B'\" /x\n\thi\n\tEOF\nB\nONBUILD COPY --link a b\n",
    "FROM a AS one\nRUN --mount=type=bind,from=z:2,target=/z x && \\\n# comment\n\n  y\nFROM one\nCOPY --from=0 a /b\n",
    "FROM scratch\r\nADD https://h.example/x.git#v1:dir /x\r\nADD git://h/y /y\r\nRUN --network=none x\r\n",
    "ARG A=aaaa\nARG B=$A$A$A$A\nARG C=$B$B$B$B\nARG D=$C$C$C$C\nARG E=$D$D$D$D\nARG F=$E$E$E$E\nARG G=$F$F$F$F\n\
     ARG H=$G$G$G$G\nARG I=$H$H$H$H\nARG J=$I$I$I$I\nARG K=$J$J$J$J\nARG L=$K$K$K$K\nARG M=$L$L$L$L\nFROM $M\n",
];

#[test]
fn lines_keep_their_numbers() {
    check(text_near(&SAMPLES), |text| {
        let read = Dockerfile::parse("Dockerfile", &text);
        let lines = |text: &str| text.lines().map(|line| line.replace('\r', "")).collect::<Vec<_>>();
        let (given, passed_on) = (lines(&text), lines(read.text()));
        assert_eq!(passed_on.len(), given.len());
        for (passed_on, given) in passed_on.iter().zip(&given) {
            assert!(passed_on == given || given.contains("--link"), "{given:?} became {passed_on:?}");
        }
        // What it wrote is read alike.
        let again = Dockerfile::parse("Dockerfile", read.text());
        assert_eq!(lines(again.text()), lines(read.text()));
        assert_eq!(again.open_heredoc, read.open_heredoc);
        let arguments = BTreeMap::from([("TAG".to_owned(), "7".to_owned())]);
        assert_eq!(again.images(&arguments), read.images(&arguments));
        let numbers = read.images(&arguments).into_iter().map(|(_, line)| line);
        let numbers = numbers.chain(read.repositories().into_iter().map(|added| added.line)).chain(read.open_heredoc);
        assert!(
            numbers.chain(read.nameless_base().map(|(line, _)| line)).all(|line| (1..=given.len()).contains(&line))
        );
        let _ = read.without_effect();
    });
}

#[test]
fn the_end_of_a_build_is_explained_in_one_line() {
    let printed = [
        "[1/2] STEP 1/2: FROM a AS one\n[2/2] STEP 3/3: RUN a && exit 3\nError: building at STEP \"RUN a\": exit status 3",
        "abcSTEP 3/3: RUN false\nError: building at STEP \"COPY gone /y\": copier: stat: \"/gone\": no such file or directory",
        "time=\"x\" level=fatal msg=\"a \\\"b\\\"\"\n--> Using cache abc\nTrying to pull a...\nError: no FROM statement found",
        "STEP 2/2: X\nError: building at STEP \"X \": Build error: Unknown instruction: \"X\" &x{}\nError: late",
    ];
    check((text_near(&SAMPLES), text_near(&printed)), |(text, lines)| {
        let dockerfile = Dockerfile::parse("Dockerfile", &text);
        let output = Output::new(std::io::sink());
        let printed = Printed::new(&dockerfile, &output);
        for line in lines.lines() {
            printed.show(line);
            let _ = printed::error_of(line);
        }
        assert_message(&printed.failure(1));
        printed.end();
    });
}
