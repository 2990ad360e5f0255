//! Methods of the data, which Go calls without a word.

use gotmpl::parse::{CommandNode, Expr, ListNode, Node, PipeNode};

/// Turns `.Label "x"`, a method call in Go, into `call .Label "x"`.
pub(crate) fn call_methods(list: &mut ListNode) {
    for node in &mut list.nodes {
        match node {
            Node::List(inner) => call_methods(inner),
            Node::Action(action) => call_methods_in_pipe(&mut action.pipe),
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                call_methods_in_pipe(&mut branch.pipe);
                call_methods(&mut branch.body);
                if let Some(other) = &mut branch.else_body {
                    call_methods(other);
                }
            }
            Node::Template(template) => {
                if let Some(pipe) = &mut template.pipe {
                    call_methods_in_pipe(pipe);
                }
            }
            Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }
}

fn call_methods_in_pipe(pipe: &mut PipeNode) {
    for (number, command) in pipe.commands.iter_mut().enumerate() {
        for argument in &mut command.args {
            if let Expr::Pipe(_, inner) = argument {
                call_methods_in_pipe(inner);
            }
        }
        call_method(command, number > 0);
    }
}

fn call_method(command: &mut CommandNode, is_piped: bool) {
    let is_method = matches!(
        command.args.first(),
        Some(Expr::Field(..) | Expr::Variable(..))
    );
    if is_method && (is_piped || command.args.len() > 1) {
        command
            .args
            .insert(0, Expr::Identifier(command.pos, "call".into()));
    }
}
