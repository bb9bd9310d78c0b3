//! A scenario's text: comments, commands, and behind `----` what they printed when they were recorded.
//!
//! ```text
//! # Comments say what is shown.
//! members 3
//! start 1 2 3
//! advance 100ms
//! ----
//! 1 enters 0.0
//!
//! publish 1 hello
//! ----
//! ```

use std::fmt::Write;

/// One group of commands with its recorded output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Comment lines and commands, as written.
    pub lines: Vec<String>,
    /// Recorded output lines.
    pub output: Vec<String>,
}

impl Block {
    /// The commands, with their line numbers in the block from 0.
    pub fn commands(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty() && !line.starts_with('#'))
    }
}

/// Splits a scenario into blocks. Output ends at an empty line.
pub fn read(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut block = Block { lines: Vec::new(), output: Vec::new() };
    let mut in_output = false;
    for line in text.lines() {
        match line {
            "----" if !in_output => in_output = true,
            "" if in_output => {
                blocks.push(std::mem::replace(&mut block, Block { lines: Vec::new(), output: Vec::new() }));
                in_output = false;
            }
            _ if in_output => block.output.push(line.to_owned()),
            _ => block.lines.push(line.to_owned()),
        }
    }
    if in_output || block.commands().next().is_some() {
        blocks.push(block);
    }
    blocks
}

/// The text of blocks; [`read`] gives them back.
pub fn write(blocks: &[Block]) -> String {
    let mut text = String::new();
    for (index, block) in blocks.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        for line in &block.lines {
            writeln!(text, "{line}").expect("a String is writable");
        }
        text.push_str("----\n");
        for line in &block.output {
            writeln!(text, "{line}").expect("a String is writable");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let text = "# why\nmembers 3\n\nstart 1\n----\na\nb\n\nadvance 1s\n----\n";
        let blocks = read(text);
        assert_eq!(blocks.len(), 2);
        assert_eq!(blocks[0].commands().collect::<Vec<_>>(), ["members 3", "start 1"]);
        assert_eq!(blocks[0].output, ["a", "b"]);
        assert_eq!(write(&blocks), text);
    }
}
