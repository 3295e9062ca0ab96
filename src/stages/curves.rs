//! What training recorded, as the report draws it.

use super::{AUTOENCODER, DENOISER, ENCODER, Run};
use crate::evaluate::report::{Curve, Series};
use crate::telemetry::metrics;
use anyhow::Result;

impl Run {
    pub(super) fn curves(&self) -> Result<Vec<Curve>> {
        let mut curves = Vec::new();
        for (stage, title, y_label, log, names) in [
            (ENCODER, "Encoder: loss", "loss", false, &["train/loss", "train/teacher_entropy"][..]),
            (
                ENCODER,
                "Encoder: directions in use",
                "effective rank",
                false,
                &["validation/effective_rank"],
            ),
            (
                AUTOENCODER,
                "Autoencoder: loss",
                "loss",
                true,
                &["train/loss", "train/reconstruction"],
            ),
            (
                AUTOENCODER,
                "Autoencoder: what the discriminator says",
                "mean over patches; real above 0",
                false,
                &["train/discriminator_real", "train/discriminator_fake"],
            ),
            (AUTOENCODER, "Autoencoder: validation", "PSNR (dB)", false, &["validation/psnr_db"]),
            (
                DENOISER,
                "Denoiser: loss",
                "loss",
                true,
                &["train/loss", "train/unweighted_loss", "validation/loss"],
            ),
            (
                DENOISER,
                "Denoiser: training loss by quarter of time, least noise first",
                "unweighted loss",
                true,
                &["train/loss_t0", "train/loss_t1", "train/loss_t2", "train/loss_t3"],
            ),
            (
                DENOISER,
                "Denoiser: validation loss by quarter of time, least noise first",
                "unweighted loss",
                true,
                &[
                    "validation/loss_t0",
                    "validation/loss_t1",
                    "validation/loss_t2",
                    "validation/loss_t3",
                ],
            ),
            (DENOISER, "Denoiser: learning rate", "learning rate", false, &["train/learning_rate"]),
        ] {
            let records = metrics::read(&self.stage_folder(stage))?;
            let series: Vec<Series> = names
                .iter()
                .map(|name| Series {
                    name: (*name).to_owned(),
                    points: records
                        .iter()
                        .filter_map(|it| Some((it.images_seen as f64, *it.values.get(*name)?)))
                        .collect(),
                })
                .filter(|series| !series.points.is_empty())
                .collect();
            if !series.is_empty() {
                curves.push(Curve {
                    title: title.to_owned(),
                    x_label: "images seen".to_owned(),
                    y_label: y_label.to_owned(),
                    log,
                    series,
                });
            }
        }
        Ok(curves)
    }
}
