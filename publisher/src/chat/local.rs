//! A text of our own as an answer, for the demo: it needs no model, and comes at the pace of one.

use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt as _, unfold};
use tokio::time::sleep;

use super::source::{Piece, Question, Source, SourceError};

const ENGLISH: &str = include_str!("local/english.txt");
const KOREAN: &str = include_str!("local/korean.txt");
/// Stands in the texts where one line ends as on Windows.
const CRLF: &str = "{crlf}\n";
const QUESTION: &str = "{question}";
/// Most characters of the question that are quoted.
const MAX_QUOTED: usize = 300;
/// How long an answer takes.
const TIME: Duration = Duration::from_secs(25);

/// Answers every question with a few paragraphs on how the answer gets to its readers, in Korean where the question has
/// Hangul in it, else in English. The same question is answered by the same pieces, of one to three words, some twenty a
/// second.
#[derive(Debug, Clone, Copy, Default)]
pub struct Local;

impl Source for Local {
    fn answer(&self, question: Question) -> BoxStream<'static, Result<Piece, SourceError>> {
        let pieces = pieces(&text(question.text()), seed(question.text()));
        let pause = u32::try_from(pieces.len()).map_or(Duration::ZERO, |count| TIME / count.max(1));
        let end = Piece::End { reason: "stop".to_owned() };
        let items = pieces.into_iter().map(Piece::Text).chain([end]);
        unfold(items, move |mut items| async move {
            let item = items.next()?;
            sleep(pause).await;
            Some((Ok(item), items))
        })
        .boxed()
    }
}

fn text(question: &str) -> String {
    let text = if question.chars().any(is_hangul) { KOREAN } else { ENGLISH };
    let line: Vec<_> = question.split_whitespace().collect();
    let quoted: String = line.join(" ").chars().take(MAX_QUOTED).collect();
    text.trim_end().replace(CRLF, "\r\n").replace(QUESTION, &quoted)
}

fn is_hangul(c: char) -> bool {
    matches!(c, '가'..='힣' | 'ㄱ'..='ㆎ' | '\u{1100}'..='\u{11ff}')
}

/// All of `text`, one to three words a piece with the white space behind them.
fn pieces(text: &str, mut seed: u64) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut words = text.split_inclusive(char::is_whitespace).peekable();
    while words.peek().is_some() {
        let count = count(&mut seed);
        pieces.push(words.by_ref().take(count).collect());
    }
    pieces
}

/// How many words come next: mostly one.
fn count(seed: &mut u64) -> usize {
    // Xorshift; any will do that is the same everywhere.
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    match *seed % 10 {
        0..=6 => 1,
        7..=8 => 2,
        _ => 3,
    }
}

/// FNV-1a, never 0.
fn seed(question: &str) -> u64 {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    question.bytes().fold(0xcbf2_9ce4_8422_2325, hash).max(1)
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    async fn answer(question: &str) -> Vec<String> {
        let mut texts = Vec::new();
        let mut answer = Local.answer(Question::new(question));
        while let Some(item) = answer.next().await {
            match item.unwrap() {
                Piece::Text(text) => texts.push(text),
                Piece::End { reason } => assert_eq!(reason, "stop"),
            }
        }
        texts
    }

    #[tokio::test(start_paused = true)]
    async fn a_text_at_the_pace_of_a_model() {
        for (question, begins) in
            [("What is\nSSE?", "You asked: “What is SSE?”\n\n"), ("SSE가 뭐야?", "질문하신 내용: “SSE가 뭐야?”\n\n")]
        {
            let start = Instant::now();
            let texts = answer(question).await;
            assert!((24..27).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
            assert!((300..600).contains(&texts.len()), "{} pieces", texts.len());
            assert!(texts.iter().all(|text| (1..=3).contains(&text.split_inclusive(char::is_whitespace).count())));
            let whole = texts.concat();
            assert!(whole.starts_with(begins), "{whole}");
            assert_eq!((whole.matches("\r\n").count(), whole.matches('{').count()), (1, 0));
            assert!(whole.contains('🎉') && whole.chars().any(is_hangul) && !whole.ends_with('\n'));
            assert_eq!(answer(question).await, texts, "the same for the same question");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_quoted_of_a_question_is_short() {
        let whole = answer(&"x ".repeat(10_000)).await.concat();
        assert!(whole.contains(&format!("“{}”", "x ".repeat(150))), "{whole}");
        assert_ne!(answer("a").await.len(), answer("b").await.len(), "another question, other pieces");
    }
}
