//! The plan directory: the emitted program with its weights, the client's part, and what the compiler found out.

use super::{CompileError, News, Placed, Planned, Planning, Prefilled, Subject};
use crate::emit::disclosures;
use crate::frontend::Checkpoint;
use crate::lower::{centre, centred};
use crate::pack::CheckpointData;
use sotto_ir::decoder::{Op, Positions, WeightSource};
use sotto_ir::plan::{
    Approximation, ClientPart, Decision, Encoding, FileEntry, ModelFacts, OutputKind, PLAN_VERSION,
    Placement, Plan, PlanWriter, Prefill, SearchNote, Security, Weights, Wire,
};
use sotto_ir::slot::{At, Layout, Leveled, Program, ValueType};
use std::path::{Path, PathBuf};

/// Entries of a client's table that are held at once.
const TABLE_BLOCK: usize = 1 << 22;

/// What passes found out that no stage holds.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// What the polynomials stand for; absent if the packed stage came from a file.
    pub approximations: Option<Vec<Approximation>>,
    /// How far the search went.
    pub search: SearchNote,
    /// What it decided.
    pub decisions: Vec<Decision>,
}

/// All that goes into a plan.
pub struct Bundle<'a> {
    /// The plan directory.
    pub output: &'a Path,
    /// Where the model comes from.
    pub origin: Origin<'a>,
    /// The model with its ranges, and how it was planned.
    pub subject: &'a Subject<'a>,
    /// Its programs.
    pub planned: &'a Planned,
}

/// Where a model comes from, and what it brings.
pub struct Origin<'a> {
    /// The model's name, for people.
    pub name: String,
    /// Where its weights come from.
    pub weights: Weights,
    /// Its tensors; of a model without weights nothing asks for any.
    pub tensors: &'a dyn WeightSource,
    /// Its tokenizer, if it has one.
    pub tokenizer: Option<PathBuf>,
}

impl<'a> Origin<'a> {
    /// A checkpoint, named for its directory.
    pub fn of_checkpoint(checkpoint: &'a Checkpoint) -> Self {
        let name = checkpoint.dir().canonicalize().ok();
        let name = name.as_deref().and_then(|dir| dir.file_name());
        let tokenizer = checkpoint.dir().join("tokenizer.json");
        Self {
            name: name.map_or("model".into(), |name| name.to_string_lossy().into_owned()),
            weights: Weights::Checkpoint,
            tensors: checkpoint,
            tokenizer: tokenizer.is_file().then_some(tokenizer),
        }
    }
}

impl Bundle<'_> {
    /// Writes the plan directory.
    pub fn write(&self, tell: &mut dyn FnMut(News<'_>)) -> Result<Plan, CompileError> {
        let Planned {
            decode, findings, ..
        } = self.planned;
        let mut writer = PlanWriter::create(self.output)?;
        self.write_arrays(&mut writer, tell)?;
        let client = self.client(&mut writer)?;
        let Planning {
            params, options, ..
        } = &self.subject.planning;
        let emitted = decode.emitted.clone();
        let plan = Plan {
            version: PLAN_VERSION,
            compiler: env!("CARGO_PKG_VERSION").into(),
            model: self.facts(),
            security: Security::of(params),
            disclosures: disclosures(&client),
            client,
            capacity: decode.leveled.capacity,
            estimate: emitted.estimate,
            keys: emitted.keys,
            bootstraps: emitted.bootstraps,
            approximations: self.approximations(),
            sites: self.subject.ranges.sites(&self.layers(), options.margin),
            search: findings.search,
            decisions: findings.decisions.clone(),
            params: params.clone(),
            decode: emitted.decode,
            prefill: self.planned.prefill.as_ref().map(prefill_part),
            arrays: Vec::new(), // the writer knows them
        };
        Ok(writer.finish(plan)?)
    }

    /// The arrays of both programs.
    fn write_arrays(
        &self,
        writer: &mut PlanWriter,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<(), CompileError> {
        let Origin {
            tensors, weights, ..
        } = self.origin;
        let positions = &self.subject.decoder.model.positions;
        let mut packing = |done, total| {
            let what = "packing weights";
            tell(News::Doing { what, done, total });
        };
        // the program with the most declarations comes last
        let prefill = self.planned.prefill.as_ref();
        let programs = prefill.map(|prefill| &prefill.placed);
        for placed in [&self.planned.decode].into_iter().chain(programs) {
            let program = &placed.emitted.decode;
            let data = CheckpointData::new(&program.data, tensors, positions);
            writer.write_arrays(program, weights, &data, Encoding::I16, &mut packing)?;
        }
        Ok(())
    }

    fn facts(&self) -> ModelFacts {
        let facts = &self.subject.decoder.model;
        ModelFacts {
            name: self.origin.name.clone(),
            digest: self.subject.decoder.checkpoint.to_string(),
            weights: self.origin.weights,
            hidden: facts.hidden as u32,
            intermediate: facts.intermediate as u32,
            layers: facts.layers as u32,
            heads: facts.heads as u32,
            kv_heads: facts.kv_heads as u32,
            head_dim: facts.head_dim as u32,
            vocab: facts.vocab as u32,
        }
    }

    /// Layers of each layer template, first and count.
    fn layers(&self) -> Vec<(u32, u32)> {
        let ends = [crate::pack::EMBED, crate::pack::FINAL];
        let program = &self.planned.decode.leveled;
        let steps = program.steps.iter();
        steps
            .filter(|step| !ends.contains(&program.templates[step.template].name.as_str()))
            .map(|step| (step.first, step.count))
            .collect()
    }

    /// What the polynomials stand for, or where that is not known, the polynomials as they are.
    fn approximations(&self) -> Vec<Approximation> {
        let polys = self
            .planned
            .decode
            .leveled
            .polys
            .iter()
            .map(|poly| Approximation {
                site: poly.name.clone(),
                function: "polynomial of the stage file".into(),
                interval: (-1.0, 1.0),
                degree: poly.degree(),
                error: poly.error,
            });
        let known = self.planned.findings.approximations.clone();
        let mut all = known.unwrap_or_else(|| polys.collect());
        let prefill = self.planned.prefill.iter();
        for one in prefill.flat_map(|prefill| prefill.findings.approximations.iter().flatten()) {
            if !all.contains(one) {
                all.push(one.clone());
            }
        }
        all
    }

    fn client(&self, writer: &mut PlanWriter) -> Result<ClientPart, CompileError> {
        let (decoder, program) = (&self.subject.decoder, &self.planned.decode.leveled);
        let facts = &decoder.model;
        let first = &program.templates[program.steps[0].template];
        let embedding = match first.name == crate::pack::EMBED {
            true => Placement::Server,
            false => Placement::Client,
        };
        let head = crate::pack::returns(program, decoder);
        let learned = facts.positions == Positions::Learned;
        let mut table = |placement, file, table: Option<ClientTable<'_>>| {
            let here = placement == Placement::Client && self.origin.weights != Weights::None;
            let table = table.filter(|_| here);
            let written = table.map(|table| self.table(writer, file, &table));
            written.transpose()
        };
        let embedding_table = table(embedding, "embedding.f32", self.embedding())?;
        let position_table = table(embedding, "positions.f32", self.positions())?;
        let head_table = table(head, "head.f32", self.head())?;
        Ok(ClientPart {
            input: input(program),
            outputs: outputs(program),
            output_kind: match head {
                Placement::Server => OutputKind::Logits,
                Placement::Client => OutputKind::Hidden,
            },
            embedding,
            head,
            bos: facts.bos,
            eos: facts.eos.clone(),
            tokenizer: self.tokenizer(writer)?,
            embedding_table,
            learned_positions: learned,
            position_table,
            head_table,
        })
    }

    fn tokenizer(&self, writer: &mut PlanWriter) -> Result<Option<FileEntry>, CompileError> {
        let Some(path) = &self.origin.tokenizer else {
            return Ok(None);
        };
        let bytes = std::fs::read(path).map_err(CompileError::read(path))?;
        Ok(Some(writer.write_client_file("tokenizer.json", &bytes)?))
    }

    fn embedding(&self) -> Option<ClientTable<'_>> {
        self.embedded(|op| match op {
            Op::Embed { weight, .. } => Some(weight),
            _ => None,
        })
    }

    /// As many rows as the plan has positions.
    fn positions(&self) -> Option<ClientTable<'_>> {
        let table = self.embedded(|op| match op {
            Op::Position { weight, .. } => Some(weight),
            _ => None,
        })?;
        Some(ClientTable {
            rows: Some(self.planned.decode.leveled.capacity as usize),
            ..table
        })
    }

    /// The table of an operation of the embedding; without means where slots have none.
    fn embedded(&self, weight: impl Fn(&Op) -> Option<&String>) -> Option<ClientTable<'_>> {
        let decoder = &self.subject.decoder;
        let mut insts = decoder.embed.insts.iter();
        let (site, name) = insts.find_map(|inst| Some((&inst.site, weight(&inst.op)?)))?;
        Some(ClientTable {
            name,
            rows: None,
            centred: centred(decoder).contains(site),
        })
    }

    fn head(&self) -> Option<ClientTable<'_>> {
        let last = &self.subject.decoder.final_;
        match &last.definition(last.result)?.op {
            Op::Linear { weight, .. } => Some(ClientTable {
                name: weight,
                rows: None,
                centred: false,
            }),
            _ => None,
        }
    }

    fn table(
        &self,
        writer: &mut PlanWriter,
        file: &str,
        table: &ClientTable<'_>,
    ) -> Result<FileEntry, CompileError> {
        let (tensors, name) = (self.origin.tensors, table.name);
        let shape = tensors.shape(name)?;
        let rows = table.rows.or(shape.first().copied()).unwrap_or(0);
        let width: usize = shape.iter().skip(1).product();
        let block = (TABLE_BLOCK / width.max(1)).max(1);
        let mut written = writer.client_table(file)?;
        for first in (0..rows).step_by(block) {
            let mut rows = tensors.rows(name, first..rows.min(first + block))?;
            if table.centred {
                rows.data
                    .chunks_exact_mut(width.max(1))
                    .for_each(centre_row);
            }
            written.write(&rows.data)?;
        }
        Ok(written.finish()?)
    }
}

/// A table that the client holds.
struct ClientTable<'a> {
    /// Tensor name.
    name: &'a str,
    /// The first rows of it only.
    rows: Option<usize>,
    /// Whether its rows are without their mean.
    centred: bool,
}

/// Takes off a row's mean, in float64.
fn centre_row(row: &mut [f32]) {
    let mut exact: Vec<f64> = row.iter().copied().map(f64::from).collect();
    centre(&mut exact);
    row.iter_mut()
        .zip(exact)
        .for_each(|(x, exact)| *x = exact as f32);
}

/// What a plan says of its prefill program.
fn prefill_part(prefill: &Prefilled) -> Prefill {
    let Placed { leveled, emitted } = &prefill.placed;
    Prefill {
        input: input(leveled),
        outputs: outputs(leveled),
        estimate: emitted.estimate.clone(),
        search: prefill.findings.search,
        decisions: prefill.findings.decisions.clone(),
        program: emitted.decode.clone(),
    }
}

/// What the client sends to a program.
fn input(program: &Program<Leveled>) -> Wire {
    let first = &program.templates[program.steps[0].template];
    wire(&first.params[0].ty, first.params[0].note)
}

/// What the client gets from a program.
fn outputs(program: &Program<Leveled>) -> Vec<Wire> {
    let last = program.steps.last();
    let template = last.map(|step| &program.templates[step.template]);
    let typed = template.into_iter().flat_map(|template| {
        template.results.iter().filter_map(|value| {
            template.nodes.iter().find_map(|node| {
                let index = node.results.iter().position(|result| result == value)?;
                Some(wire(&node.types[index], node.notes[index]))
            })
        })
    });
    typed.collect()
}

fn wire(ty: &ValueType, at: At) -> Wire {
    let (count, width) = match *ty.layout.each() {
        // of a vector in several slots each, every side has the same
        Layout::Periodic { count, width } | Layout::Strided { count, width, .. } => (count, width),
        ref each => (each.period(), each.period()),
    };
    let block = ty.layout.period() / width;
    Wire {
        count,
        width,
        block,
        unit: ty.unit,
        level: at.level,
    }
}
