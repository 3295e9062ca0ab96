//! What can be typed.

use crate::device;
use crate::stages;
use clap::builder::TypedValueParser as _;
use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Trains latent diffusion models on unlabelled radiographs, conditioned on DINO embeddings.
///
/// Everything that decides a result is in a recipe; flags only say where it runs. Not for clinical use.
#[derive(Debug, Parser)]
#[command(name = "umbra", version = VERSION, after_help = EXIT_CODES)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) verb: Verb,
    /// Only warnings on stderr, no progress bars.
    #[arg(long, short, global = true)]
    quiet: bool,
}

const VERSION: &str = if cfg!(feature = "cuda") {
    concat!(env!("CARGO_PKG_VERSION"), " (cpu, cuda)")
} else {
    concat!(env!("CARGO_PKG_VERSION"), " (cpu)")
};

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 bad recipe or arguments, 3 damaged data or weights, 4 an audit failed,
75 stopped by a signal with a checkpoint saved (run the same command again to go on).";

const FORWARD: &str = "\
What the folder's config names decides which tensors go in and come out, under the reference's own names:
  UNet2DConditionModel         sample, timestep, encoder_hidden_states (class_labels, text_embeds,
                               time_ids, timestep_cond where it takes them) -> sample
  SD3Transformer2DModel        hidden_states, timestep, encoder_hidden_states, pooled_projections -> sample
  AutoencoderKL, -Tiny         x -> mean, logvar;  z -> sample
  ViTModel, Dinov2Model, RAD-DINO, DINOv3ViTModel
                               pixel_values -> last_hidden_state, pooler_output
  CLIPTextModel, BertModel     input_ids, attention_mask -> last_hidden_state, pooler_output
  XrayDenseNet, InceptionV3Features
                               pixel_values -> features (and logits, outputs)
  Lpips                        a, b -> distance
  a scheduler                  sample, model_output [n, B, C, H, W] (and noise, for a DDPM with any) -> sample [n, ...],
                               the sample after each of the n recorded model outputs";

const EXPORT: &str = "\
Write a trained run as a folder that Python's diffusers and transformers open.

The folder has the denoiser, the autoencoder, the encoder and a scheduler under the libraries' own names, the condition
between encoder and denoiser beside them, sample.py, which draws an image from an image with stock classes, and a model
card (README.md) with the recipe, the data's counts and the report's figures. It is complete or absent. The run is
only read, and may be training meanwhile.";

const EXPORT_EXAMPLE: &str = "\
Example:
    umbra run recipes/quickstart.ron
    umbra export checkpoints/quickstart --to diffusers quickstart-model
    python quickstart-model/sample.py checkpoints/quickstart/sample/images/0-reconstruct-000000.png

Exit code 2, and nothing is written, where RUN is no run or not trained yet, where FOLDER is there already, and
where diffusers has no scheduler for the run's schedule and objective. See docs/export.md.";

const EMA: &str = "\
Make an average of a network's weights of any length, after its training, from the snapshots that it kept.

Snapshots are kept where the recipe names lengths: train: (ema: (sigma_rel: [0.05, 0.10])). The mix of them that comes
nearest to the wanted average by least squares is written as a folder beside the network's checkpoints (Karras et al.
2023, appendix C). generate and export take such a folder of the denoiser in the place of a run. The run is only read, and
may be training meanwhile.";

const EMA_EXAMPLE: &str = "\
Example:
    umbra ema checkpoints/mine --sigma-rel 0.08
    umbra generate checkpoints/mine/denoiser/average-0.080-000000100000 a.png --out generated

Exit code 2, and nothing is written, where there are no snapshots, or where they cannot make that length.";

const GENERATE: &str = "\
Example: umbra generate checkpoints/quickstart a.png b.dcm --out generated --count 4 --guidance 2

Leaves 0000-0000.png … (number of the file, number of the image) and generated.csv, which names no input file. Every
image says that it is synthetic.";

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Look at a recipe: faults, stages, sizes, memory, disk, time. Writes nothing.
    Check(At),
    /// Run all of a recipe: every stage that is not up to date. Run it again to resume.
    Run(At),
    /// Files to catalog.
    Ingest(At),
    /// Images to latents and condition tokens, and what that needs.
    Encode(At),
    /// Train one network, or all three, and what that needs.
    #[command(allow_missing_positional = true)]
    Train(Train),
    /// Draw images, and what that needs.
    Sample(At),
    /// Measure and write the report, and what that needs.
    Evaluate(At),
    /// Write a trained run as a folder that Python's diffusers and transformers open.
    #[command(long_about = EXPORT, after_help = EXPORT_EXAMPLE)]
    Export(Export),
    /// Make an average of a network's weights of another length, after its training.
    #[command(long_about = EMA, after_help = EMA_EXAMPLE)]
    Ema(Ema),
    /// Draw images like those of given files, from a trained run or an exported folder.
    #[command(after_help = GENERATE)]
    Generate(Generate),
    /// Describe image files as umbra sees them, or say why they are refused.
    Inspect(Inspect),
    /// Compute a network of a folder (diffusers' or transformers' layout) on recorded tensors.
    #[command(after_help = FORWARD)]
    Forward(Forward),
    /// Time a training step of the U-Net of Stable Diffusion 1.5 here, or of a transformer.
    Bench(Bench),
    /// List what there is to compute with here: GPUs, NVIDIA's libraries, MPI; and what to install.
    Doctor(Doctor),
    /// Make every kernel and plan that a recipe needs on a GPU, for a card that need not be here.
    WarmUp(WarmUp),
    /// Compare every operation of a device, forward and backward, with the CPU. The first thing to run on a new card.
    Parity(Parity),
    /// List stores and checkpoints that nobody refers to; remove them with --yes.
    Clean(Clean),
    /// Open the image that is named on stdin, in a process that may die of it. For ingest alone.
    #[command(hide = true)]
    Open,
}

/// A recipe and where it runs.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct At {
    /// The recipe file (RON).
    pub(super) recipe: PathBuf,
    /// Change one field, as in denoiser.train.images=200000 or 'denoiser.task.schedule=Cosine()'. May be repeated.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub(super) overrides: Vec<String>,
    /// Where to compute: cpu, or cuda:N.
    #[arg(long, default_value = "cpu")]
    pub(super) device: String,
    /// Threads for computing and loading [default: all cores].
    #[arg(long)]
    pub(super) threads: Option<usize>,
    /// Where relative data paths of the recipe start.
    #[arg(long, default_value = ".")]
    pub(super) data_root: PathBuf,
    /// Where runs are kept.
    #[arg(long, default_value = "checkpoints")]
    pub(super) checkpoints: PathBuf,
    /// What the keys of patients are made with; made once if it is not there [default: $UMBRA_PATIENT_SECRET, or
    /// umbra/patient-secret in $XDG_CONFIG_HOME or ~/.config].
    #[arg(long, value_name = "FILE")]
    pub(super) patient_secret: Option<PathBuf>,
    /// Print one JSON document on stdout.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Train {
    /// Which network; all three in order if none is named.
    #[arg(value_enum)]
    network: Option<Network>,
    #[command(flatten)]
    pub(super) at: At,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Network {
    Encoder,
    Autoencoder,
    Denoiser,
}

impl Network {
    fn stage(self) -> &'static str {
        match self {
            Self::Encoder => stages::ENCODER,
            Self::Autoencoder => stages::AUTOENCODER,
            Self::Denoiser => stages::DENOISER,
        }
    }
}

impl Train {
    pub(super) fn stage(&self) -> &'static str {
        self.network.unwrap_or(Network::Denoiser).stage()
    }
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Ema {
    /// The run's folder, such as checkpoints/quickstart.
    pub(super) run: PathBuf,
    /// The average's length: the standard deviation of the time its weights are from, as a share of all training.
    #[arg(long)]
    pub(super) sigma_rel: f64,
    /// Of which network.
    #[arg(long, value_enum, default_value_t = Network::Denoiser)]
    network: Network,
    /// As it was after so many images [default: those of the last snapshot].
    #[arg(long)]
    pub(super) images: Option<u64>,
    /// The folder to make; it must not be there yet [default: average-<length>-<images> beside the network's
    /// checkpoints].
    #[arg(long, value_name = "FOLDER")]
    pub(super) out: Option<PathBuf>,
    /// Where relative folders of weights in the run's recipe start.
    #[arg(long, default_value = ".")]
    pub(super) data_root: PathBuf,
    /// Print one JSON document on stdout.
    #[arg(long)]
    pub(super) json: bool,
}

impl Ema {
    pub(super) fn stage(&self) -> &'static str {
        self.network.stage()
    }
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Export {
    /// The run's folder, such as checkpoints/quickstart; or a checkpoint of its denoiser, or an average beside them.
    pub(super) run: PathBuf,
    /// For which library.
    #[arg(long, value_enum)]
    pub(super) to: Library,
    /// The folder to make; it must not be there yet.
    pub(super) folder: PathBuf,
    /// Where relative folders of weights in the run's recipe start.
    #[arg(long, default_value = ".")]
    pub(super) data_root: PathBuf,
    /// Which weights of the denoiser: their average, as in samples and report, or those of the last step.
    #[arg(long, value_enum, default_value_t = Weights::Ema)]
    pub(super) weights: Weights,
    /// Print one JSON document on stdout.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Library {
    Diffusers,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Weights {
    Ema,
    Raw,
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Generate {
    /// A run's folder, a checkpoint of its denoiser or an average beside them, or a folder that `umbra export` made.
    pub(super) model: PathBuf,
    /// Image files whose embeddings guide: DICOM, PNG or JPEG.
    #[arg(required = true)]
    pub(super) images: Vec<PathBuf>,
    /// The folder to make; it must not be there yet.
    #[arg(long)]
    pub(super) out: PathBuf,
    /// Images to draw for each file.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..).map(usize::from))]
    pub(super) count: usize,
    /// Guidance scale; 1 is none.
    #[arg(long, default_value_t = 1.0)]
    pub(super) guidance: f64,
    /// Steps of DPM-Solver++ 2M, each a network evaluation (two with guidance).
    #[arg(long, default_value_t = 20)]
    pub(super) steps: usize,
    /// What all noise comes from.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Where to compute: cpu, or cuda:N.
    #[arg(long, default_value = "cpu")]
    pub(super) device: String,
    /// Where relative folders of weights in a run's recipe start.
    #[arg(long, default_value = ".")]
    pub(super) data_root: PathBuf,
    /// Print one JSON document on stdout.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Inspect {
    /// Image files: DICOM, PNG or JPEG.
    #[arg(required = true)]
    pub(super) files: Vec<PathBuf>,
    /// Print one JSON array on stdout, an object per file.
    #[arg(long)]
    pub(super) json: bool,
}

/// What `bench` encodes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Encoder {
    /// Stable Diffusion's autoencoder.
    Vae,
    /// DINOv2-B.
    Dino,
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Bench {
    /// Where to compute: cpu, or cuda:N.
    #[arg(long, default_value = "cpu")]
    pub(super) device: String,
    /// Side of a latent.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(8..=256).map(usize::from))]
    pub(super) latent: usize,
    /// Images per step.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..).map(usize::from))]
    pub(super) batch: usize,
    /// Compute in bfloat16.
    #[arg(long)]
    pub(super) bf16: bool,
    /// Let a GPU's products round f32 to TF32.
    #[arg(long, conflicts_with = "bf16")]
    pub(super) tf32: bool,
    /// A smaller network instead: of 25 million parameters, or size S of the transformer.
    #[arg(long)]
    pub(super) tiny: bool,
    /// A transformer of size XL with patches of 2 instead of the U-Net; latents of an even side.
    #[arg(long)]
    pub(super) transformer: bool,
    /// Encode images instead of training: 256 px by Stable Diffusion's autoencoder, or 224 px by DINOv2-B.
    #[arg(long, value_enum, conflicts_with_all = ["tiny", "transformer", "latent", "operations"])]
    pub(super) encode: Option<Encoder>,
    /// Time every operation of one more step, each waited for. On a GPU only.
    #[arg(long)]
    pub(super) operations: bool,
    /// Keep what was measured of this device, for what `umbra check` says of time and memory.
    #[arg(long, conflicts_with_all = ["encode", "operations"])]
    pub(super) save: bool,
    /// Steps before timing.
    #[arg(long, default_value_t = 3)]
    pub(super) warm_up: usize,
    /// Steps timed; the median counts.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..).map(usize::from))]
    pub(super) iterations: usize,
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct WarmUp {
    #[command(flatten)]
    pub(super) at: At,
    /// The card: sm_80 (A100), sm_90 (H100, H200) or sm_100 (B200).
    #[arg(long, default_value = "sm_90")]
    pub(super) target: String,
    /// Where they are kept [default: $UMBRA_CACHE, or umbra in $XDG_CACHE_HOME or ~/.cache].
    #[arg(long)]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Doctor {
    /// Print one JSON document on stdout.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Parity {
    /// Which device: cuda:N.
    #[arg(long, default_value = "cuda:0")]
    pub(super) device: String,
    /// Only what has this in its name, as in "conv".
    #[arg(long, value_name = "TEXT")]
    pub(super) only: Option<String>,
    /// Print one JSON document on stdout.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Forward {
    /// The folder: config.json and weights in safetensors.
    pub(super) folder: PathBuf,
    /// The network's inputs, a safetensors file.
    #[arg(long)]
    pub(super) input: PathBuf,
    /// Where its outputs go, a safetensors file.
    #[arg(long)]
    pub(super) output: PathBuf,
    /// Where to compute: cpu, or cuda:N.
    #[arg(long, default_value = "cpu")]
    pub(super) device: String,
    /// Print one JSON document on stdout.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Clean {
    /// Where runs are kept.
    #[arg(long, default_value = "checkpoints")]
    pub(super) checkpoints: PathBuf,
    /// Remove what is listed.
    #[arg(long)]
    pub(super) yes: bool,
    /// Print one JSON document on stdout.
    #[arg(long)]
    pub(super) json: bool,
}

impl Args {
    pub(super) fn quiet(&self) -> bool {
        self.quiet
    }
}

impl At {
    /// Threads to use: what was asked for, or all cores.
    pub(super) fn num_threads(&self) -> usize {
        let all = std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or(all).max(1)
    }

    /// The file with the patient secret; `None` where there is no place for one.
    pub(super) fn patient_secret_file(&self) -> Option<PathBuf> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let named = self.patient_secret.clone();
        named.or_else(|| variable("UMBRA_PATIENT_SECRET").map(PathBuf::from)).or_else(|| {
            // The XDG base directory specification: a relative path is to be ignored.
            let folder =
                variable("XDG_CONFIG_HOME").map(PathBuf::from).filter(|it| it.is_absolute());
            let folder = folder.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".config")));
            Some(folder?.join("umbra/patient-secret"))
        })
    }

    /// The device, without autodiff.
    pub(super) fn parse_device(&self) -> Result<burn::tensor::Device, device::DeviceError> {
        device::parse(&self.device)
    }
}
