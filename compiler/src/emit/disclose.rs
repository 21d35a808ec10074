//! What running a plan reveals.

use sotto_ir::plan::{ClientPart, OutputKind, Placement};

/// One sentence each: what whoever runs the plan learns, given who holds which table.
pub fn disclosures(client: &ClientPart) -> Vec<String> {
    let mut list = vec![
        "The server learns the model, the number of tokens of prompt and answer, and when each was asked for; it learns no token, \
         activation, cached key or value, or score."
            .to_string(),
        "The server's answers carry no proof: a server that deviates from the plan is not detected.".to_string(),
    ];
    let tables = match client.learned_positions {
        true => "embedding table and the table of positions",
        false => "embedding table",
    };
    list.push(match client.embedding {
        Placement::Client => {
            format!("The client holds the {tables} of the checkpoint in the clear.")
        }
        Placement::Server => {
            let stays = if client.learned_positions {
                "stay"
            } else {
                "stays"
            };
            format!("The {tables} {stays} with the server.")
        }
    });
    list.push(match (client.head, client.output_kind) {
        (Placement::Client, _) => {
            "The client holds the head of the checkpoint in the clear and decrypts every final hidden state.".into()
        }
        (Placement::Server, OutputKind::Logits) => {
            "The head stays with the server; the client decrypts all scores of every token, which over many tokens determine the \
             head up to a linear map."
                .into()
        }
        (Placement::Server, OutputKind::Hidden) => {
            "The head stays with the server; the client decrypts every final hidden state.".to_string()
        }
    });
    list.push(
        "Whatever the client derives from a decrypted value and sends back, its reaction to garbage included, helps the server to \
         recover the secret key (IND-CPA-D); the protocol sends back nothing but the next encrypted token."
            .to_string(),
    );
    list
}
