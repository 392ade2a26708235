use super::*;

const SHA: &str = "4cb2a0f4ddc35e8a3e3d8ab5fe5e50ec1d2a0a1c3b9e9b9f5a3f0d9d0a1b2c3d";

fn parsed(text: &str) -> Result<Vec<Arc<Token>>, Vec<String>> {
    let mut known = vec![Arc::new(Token::own("everything"))];
    match read_lines(Path::new("f"), text, &mut known) {
        Ok(()) => Ok(known),
        Err(faults) => Err(faults.0.iter().map(ToString::to_string).collect()),
    }
}

#[test]
fn a_line_is_a_name_scopes_and_a_checksum_and_a_comment_is_none() {
    let text = format!("# who\n\n a.b:c-1_  read,run\t{SHA} # since May\r\n\n#x\n");
    let known = parsed(&text).unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!(known.len(), 2);
    assert_eq!(&*known[1].name, "a.b:c-1_");
    let allowed = Scope::ALL.map(|scope| known[1].allows(scope));
    assert_eq!(allowed, [true, false, false, true]);
    assert_eq!(hex(&known[1].digest), SHA);
    assert!(Scope::ALL.into_iter().all(|scope| known[0].allows(scope)));
}

#[test]
fn every_wrong_line_is_told_at_once_by_its_number_and_none_is_quoted() {
    let secret = "s3cret-s3cret";
    let lines = [
        format!("a read {SHA}"),
        format!("b read {secret}"),
        format!("{secret} {SHA}"),
        format!("c read,{secret} {SHA}"),
        format!("+{secret} read {SHA}"),
        format!("d read {SHA} {secret}"),
        format!("a run {}", SHA.replace('4', "5")),
        format!("e run {}", SHA.to_uppercase()),
        format!("API_TOKEN read {}", SHA.replace('4', "5")),
        format!("f , {}", SHA.replace('4', "5")),
        format!("g read {}", &SHA[1..]),
        format!("h read +{}", &SHA[1..]),
        format!("{PREFIX}{secret} read {}", SHA.replace('4', "5")),
    ];
    let faults = parsed(&lines.join("\n")).err().expect("faults");
    let told: Vec<&str> = faults.iter().map(|fault| fault.split(':').next().unwrap()).collect();
    let numbers: Vec<String> =
        (2..=13).map(|number| format!("API_TOKENS_FILE=f, line {number}")).collect();
    assert_eq!(told, numbers);
    assert!(!faults.concat().contains(secret), "{faults:?}");
    assert!(faults[2].ends_with("must be scopes, one or more of read, balance, jobs, run"));
}

#[test]
fn a_file_without_a_token_is_wrong_because_it_would_open_everything() {
    for text in ["", "# nobody yet\n\n"] {
        let faults = parsed(text).err().expect("a fault");
        assert!(faults[0].starts_with("API_TOKENS_FILE=f: must be a file with at least one token"));
    }
}

#[test]
fn a_token_in_place_of_its_file_is_not_shown() {
    let (text, _) = new_token("ci", &["read"], &[7; 32]).expect("one");
    let faults = Tokens::read(None, Some(PathBuf::from(&text))).err().expect("a fault").to_string();
    assert!(faults.contains("API_TOKENS_FILE=****: must be a file"), "{faults}");
    assert!(!faults.contains(&text), "{faults}");
    let faults = Tokens::read(None, Some(PathBuf::from("./none"))).err().expect("a fault");
    assert!(faults.to_string().contains("API_TOKENS_FILE=./none: must"), "{faults}");
}

#[test]
fn a_token_is_found_by_its_own_text_only() {
    let tokens = Tokens::read(Some(Token::own("correct horse")), None).expect("one");
    assert_eq!(tokens.find("correct horse").expect("it").name().as_ref(), "API_TOKEN");
    for other in ["", "correct hors", "correct horsf", "correct horse ", "xorrect horse"] {
        assert!(tokens.find(other).is_none(), "{other}");
    }
}

#[test]
fn a_new_token_is_the_one_of_its_line() {
    let (text, line) = new_token("ci", &["read", "jobs,run"], &[7; 32]).expect("one");
    assert_eq!(text, format!("balanced_{}", "07".repeat(32)));
    let known = parsed(&line).unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!(line.split(' ').take(2).collect::<Vec<_>>(), ["ci", "read,jobs,run"]);
    assert_eq!(known[1].digest, digest(&text));
    for (name, scopes) in
        [("ci", &[][..]), ("c i", &["read"]), ("ci", &["write"]), ("", &["run"]), (&text, &["run"])]
    {
        assert!(new_token(name, scopes, &[7; 32]).is_err(), "{name} {scopes:?}");
    }
}
