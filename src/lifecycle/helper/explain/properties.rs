use super::{
    super::pattern::{Log, Pattern},
    file,
    sentence::Sentence,
};
use crate::properties::{assert_message, bytes_near, check, check_one_in, text_near};

#[test]
fn sentences_are_read_or_refused_in_one_line() {
    let samples =
        ["{it} is missing: lib{it:lower}-dev", "failed{none? ({none})}{it? ({it|x})}", "{{ a: {{}} }}", "{a|{a|"];
    check(text_near(&samples), |text| match Sentence::parse(&text) {
        Ok(sentence) => {
            let rendered = sentence.render(&|reference| reference.name.clone());
            assert!(rendered.len() <= text.len());
            let _ = (sentence.references(), sentence.with_words(&[].into()));
        }
        Err(error) => assert_message(&error),
    });
}

#[test]
fn patterns_are_read_or_refused_in_one_line() {
    let patterns =
        ["^(?:fatal )?error: (\\S+)\\.h: No such file$", "(?<gem>[a-z_-]+)-\\d{1,3}", "[[:alpha:]]|(a*)*b", "\\p{L}"];
    let logs = [&b"fatal error: x.h: No such file\nnokogiri-1.2\r\naaaaaaaaaaaaaaaaaaaaaaaaac\n"[..], b"\xff\n"];
    check_one_in(4, (text_near(&patterns), bytes_near(&logs)), |(text, log)| match Pattern::parse(&text) {
        Ok(pattern) => {
            let found: Vec<_> = pattern.find_all(&Log::new(&log)).collect();
            assert_eq!(
                found.first().map(|found| &found.it),
                pattern.find(&Log::new(&log)).map(|found| found.it).as_ref()
            );
        }
        Err(error) => assert_message(&error),
    });
}

#[test]
fn rules_are_read_or_refused_in_one_line() {
    let samples = [
        "[variables]\nstack = 'debian'\n[find]\nversion = 'v(\\d+)'\n[[rule]]\nmatch = ['error: (\\S+)']\nsay = '{it} {version}'\n\
         when = {version = '1'}\nstatus = 3\n[[rule.examples]]\nlog = 'error: x'\nsays = 'x'\n",
        "[[rule]]\nshared = 'disk-full'\nwords = {what = 'x'}\n",
    ];
    check_one_in(8, text_near(&samples), |text| {
        if let Err(error) = file::parse(&text) {
            assert_message(&error);
        }
    });
}
