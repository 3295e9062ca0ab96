//! umbra: latent diffusion models from unlabelled radiographs, conditioned on DINO embeddings.
//!
//! # The story
//!
//! Hospitals have hundreds of thousands of radiographs and labels for few of them. A DINO encoder, which needs none,
//! turns each into a few *tokens* that say what it shows; an autoencoder turns it into small *latents*; a U-Net learns
//! to denoise latents, guided by tokens. Every point between the embeddings of real images then names an image that
//! nobody took: one may restore, interpolate and perturb them, let them carry the labels of their neighbours, and
//! train a classifier with them.
//!
//! A [`recipe`] says all that decides a result. The [`stages`] carry it out, each from what earlier ones left on disk:
//!
//! ```text
//! recipe ─► ingest ─► encoder ─────┐
//!              │                   ├─► encode ─► denoiser ─► sample ─► evaluate
//!              └────► autoencoder ─┘   (store)
//! ```
//!
//! # The rooms, from the ground up
//!
//! | room | what is in it |
//! |---|---|
//! | [`random`] | draws as a function of (seed, stream, position) |
//! | [`engine`] | the operations that decide the speed, for CPU and GPU, with their gradients |
//! | [`device`] | `cpu`, `cuda:0` |
//! | [`faults`] | what is wrong with a recipe, in one dialect |
//! | [`interrupt`] | the first signal asks, the second ends |
//! | [`artifact`] | files and folders that are complete or absent; locks, stamps, hashes |
//! | [`telemetry`] | events, numbers, progress: three channels |
//! | [`metric`] | Fréchet distance, PRDC, kNN, SSIM …: functions over slices |
//! | [`diffusion`] | schedules, objectives, weightings, guidance; knows no network |
//! | [`data`] | files to batches: sources, DICOM, catalog, loader, store |
//! | [`models`] | networks, their configs and weights: tensors in, tensors out |
//! | [`sample`] | from noise to images, and where on the manifold to start |
//! | [`train`] | one loop; tasks, optimizer, average, checkpoints |
//! | [`evaluate`] | a file per figure, and the report that knows none of them |
//! | [`interop`] | what passes between umbra and diffusers or transformers |
//! | [`recipe`] | the sum of the sections, and what holds between them |
//! | [`stages`] | a file per stage; `run` and `check` are one walk over their graph |
//! | [`cli`] | a function per verb, and exit codes |
//!
//! A room imports from the rooms above it in this table only; `docs/architecture.md` tells what each must not know.
//!
//! # Glossary
//!
//! | word | here |
//! |---|---|
//! | image | a radiograph: grey values in [0, 1], a padded square of `data.size` |
//! | patient key | what stands for a patient: a keyed hash, the same for all images of one |
//! | split | training, validation or test images; a patient is in one of them |
//! | catalog | the SQLite file that lists the images, and why others were left out |
//! | tokens, embedding | the encoder's output [N, d]; its first row, the class token |
//! | condition | tokens as the denoiser takes them; dropped for a part of training, for guidance |
//! | latents | the autoencoder's mean and log-variance; scaled to mean 0 and variance 1 before they are noised |
//! | store | latents and tokens of all images, computed once, memory-mapped |
//! | schedule | of noise: ᾱ(t) for t in [0, 1]; `snr`, `sigma` follow from it |
//! | objective | what the denoiser predicts: noise (epsilon), velocity, the clean latents, a flow |
//! | guidance scale | w in *unconditional + w · (conditional − unconditional)*; 1 is none |
//! | images seen | the unit of training: images, counted over all passes |
//! | average, EMA | the exponential moving average of the weights; what sampling uses |
//! | checkpoint | all that a training needs to resume at this very image, bit for bit |
//! | stage, inputs | one step of a run; the hash of what decides its result |
//! | figure | one number of the report, or a few that belong together, and the words for them |

pub mod artifact;
pub mod cli;
pub mod data;
pub mod device;
pub mod diffusion;
pub mod engine;
pub mod evaluate;
pub mod faults;
pub mod interop;
pub mod interrupt;
pub mod metric;
pub mod models;
pub mod random;
pub mod recipe;
pub mod sample;
pub mod stages;
pub mod telemetry;
pub mod train;
