//! Shows what an input of the target `conversation` stands for, and runs it.

fn main() -> std::io::Result<()> {
    for path in std::env::args_os().skip(1) {
        let input = std::fs::read(path)?;
        println!("{}", hackney_fuzz::conversation::show(&input));
        hackney_fuzz::conversation::run(&input);
    }
    Ok(())
}
