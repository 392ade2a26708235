//! Properties that hold for any header.

use proptest::prelude::*;

use super::*;

fn settings() -> ProptestConfig {
    ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() }
}

fn quoted(key: &str) -> String {
    format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""))
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn any_printable_text_comes_through_quotes_as_it_was(
        key in "[ -~]{1,255}",
        pad in "[ \t]{0,3}",
    ) {
        let read = IdempotencyKey::parse(&format!("{pad}{}{pad}", quoted(&key)));
        prop_assert_eq!(read, Ok(IdempotencyKey(key)));
    }

    #[test]
    fn bare_and_quoted_are_the_same_key(key in "[!#-~]([ -~]{0,253}[!-~])?") {
        let bare = IdempotencyKey::parse(&key);
        prop_assert!(bare.is_ok());
        prop_assert_eq!(bare, IdempotencyKey::parse(&quoted(&key)));
    }

    #[test]
    fn one_character_too_many_is_refused(key in "[!#-~][ -~]{254}[!-~]") {
        prop_assert_eq!(IdempotencyKey::parse(&quoted(&key)), Err(KeyFault));
        prop_assert_eq!(IdempotencyKey::parse(&key), Err(KeyFault));
    }

    #[test]
    fn an_escape_of_anything_else_is_refused(
        before in "[ !#-\\[\\]-~]{0,9}",
        escaped in "[^\"\\\\]",
        after in "[ !#-\\[\\]-~]{0,9}",
    ) {
        let header = format!("\"{before}\\{escaped}{after}\"");
        prop_assert_eq!(IdempotencyKey::parse(&header), Err(KeyFault));
    }

    #[test]
    fn whatever_is_taken_is_1_to_255_printable_characters(
        header in prop_oneof![
            "\\PC{0,40}",
            "[\"\\\\a ]{0,12}",
            "[ -~]{0,300}",
            "[a-c]{0,3}[\u{0}-\u{20}\u{7f}-\u{82}][a-c]{0,3}",
        ],
    ) {
        if let Ok(key) = IdempotencyKey::parse(&header) {
            let printable = key.as_str().chars().all(|c| (' '..='~').contains(&c));
            prop_assert!((1..=255).contains(&key.as_str().len()) && printable);
            prop_assert_eq!(IdempotencyKey::parse(&quoted(key.as_str())), Ok(key));
        }
    }
}
