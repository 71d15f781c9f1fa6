use super::*;

fn row(name: &'static str, outcome: Result<Vec<Measure>, String>) -> RowResult {
    let commands = vec!["a".to_owned(), "b --flag".to_owned()];
    RowResult { name, what: "some load: some figure", outcome, busy_percent: 3.0, commands }
}

fn cpu(bar: Bar) -> Measure {
    let measure = Measure::new("CPU per delivery", "µs", Figures::new("ours", vec![6.0, 7.0, 8.0]));
    measure.beside(Figures::new("floor", vec![6.0, 6.0, 6.0])).at_most(bar)
}

#[test]
fn each_figure_is_a_line_with_its_bar() {
    let alone = Measure::new("seconds", "s", Figures::new("ours", vec![123.4]));
    let rows = [row("one", Ok(vec![cpu(Bar::Ratio(1.2)), cpu(Bar::Absolute(6.5)), cpu(Bar::None), alone]))];
    assert_eq!(
        summary(&rows),
        "| row | figure | ours | beside | ratio | at most | met |\n\
         |---|---|---|---|---|---|---|\n\
         | one | CPU per delivery | 7.00 µs ours | 6.00 µs floor | 1.17 | 1.2 × floor | yes |\n\
         | one | CPU per delivery | 7.00 µs ours | 6.00 µs floor | 1.17 | 6.5 µs | **no** |\n\
         | one | CPU per delivery | 7.00 µs ours | 6.00 µs floor | 1.17 |  |  |\n\
         | one | seconds | 123 s ours |  |  |  |  |\n"
    );
    assert!(!rows[0].met());
}

#[test]
fn a_row_that_failed_is_said_to_have_failed() {
    let rows = [row("one", Err("no port\nis | free".to_owned())), row("two", Ok(vec![cpu(Bar::Ratio(2.0))]))];
    let line = "| one | could not be measured: no port is \\| free | | | | | **no** |";
    assert_eq!(summary(&rows).lines().nth(2), Some(line));
    assert_eq!(rows.map(|row| row.met()), [false, true]);
}

#[test]
fn a_section_has_all_figures_and_the_commands() {
    let measure = cpu(Bar::Ratio(1.2)).note("a note".to_owned()).wrong(["3 lost".to_owned()]);
    assert_eq!(
        section(&row("one", Ok(vec![measure]))),
        "\n### one\n\nsome load: some figure.\n\
         \n- CPU per delivery, ours: 6.00, 7.00, 8.00 µs; floor: 6.00, 6.00, 6.00 µs. Ratios 1.00, 1.17, 1.33 (from 1.00 to 1.33); \
         a note; **wrong**: 3 lost\n\
         \n```sh\na\nb --flag\n```\n"
    );
}

#[test]
fn a_page_says_where_it_was_measured_and_whether_it_was_quick() {
    let machine = Machine { cpu: "A CPU".to_owned(), cores: 2, memory_mib: 24_105, ..Machine::default() };
    let text = page(&machine, true, &[row("one", Ok(vec![cpu(Bar::None)]))]);
    assert!(text.contains("| CPU | A CPU, 2 cores |\n| memory | 23.5 GiB |\n"), "{text}");
    assert!(text.contains("**A quick run**"));
    assert!(!page(&machine, false, &[]).contains("quick run**"));
}

#[test]
fn a_row_that_others_disturbed_says_so() {
    let row = RowResult { busy_percent: 34.6, ..row("one", Ok(vec![cpu(Bar::None)])) };
    assert!(section(&row).contains("**The machine was busy**: others took 35 % of its CPU"));
    let text = page(&Machine::default(), false, &[row.clone(), RowResult { busy_percent: 9.9, ..row }]);
    assert!(text.contains("when 1 of 2 rows began"), "{text}");
    assert!(!page(&Machine::default(), false, &[]).contains("busy"));
}
