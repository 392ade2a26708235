use super::*;

#[test]
fn an_error_names_its_line() {
    let sql = "select 1;\n-- größer\nselec 2;";
    assert_eq!(line_of(sql, 1), 1);
    assert_eq!(line_of(sql, u32::try_from(sql.chars().count()).unwrap() - 7), 3);
}

#[test]
fn numbers_follow_each_other() {
    let file = |name| Migration { name, sql: "" };
    assert!(check_numbers(&[file("0001_a.sql"), file("0002_b.sql")]).is_ok());
    for wrong in [
        vec![file("0002_a.sql")],
        vec![file("0001_a.sql"), file("0003_b.sql")],
        vec![file("0001_a.sql"), file("0001_b.sql")],
        vec![file("first.sql")],
    ] {
        assert!(matches!(check_numbers(&wrong), Err(Fault::Refused(_))));
    }
}
