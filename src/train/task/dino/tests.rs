use super::*;
use crate::data::image::Gray;
use crate::models::encoder::trained_input;
use crate::models::weights::gradients;
use burn::tensor::TensorData;
use std::path::Path;

pub(super) const SIZE: usize = 16;

fn dino() -> Dino {
    let views = Views { num_local: 1, local_size: 8, ..Views::default() };
    let head = HeadConfig { hidden: 16, bottleneck: 8, prototypes: 12 };
    Dino { views, head, ..Dino::default() }
}

pub(super) fn task() -> DinoTask {
    task_of(dino())
}

fn task_of(dino: Dino) -> DinoTask {
    let device = Device::flex();
    let nothing = Arc::new(Radiographs::open(Vec::new(), Path::new(""), SIZE, 0));
    DinoTask {
        network: VitConfig {
            image_size: SIZE,
            patch_size: 4,
            num_channels: 1,
            hidden_size: 16,
            num_hidden_layers: 2,
            mask_token: dino.ibot.is_some(),
            layer_scale: Some(0.5),
            num_attention_heads: 2,
            intermediate_size: 32,
            ..VitConfig::default()
        },
        centers: fresh_centers(&dino, &device),
        dino,
        step: 6,
        anchor: Anchor::default(),
        input: trained_input(SIZE),
        train: nothing.clone(),
        valid: nothing,
        seed: 1,
        device,
        batch_size: 4,
    }
}

fn items(task: &DinoTask, first: u64) -> Vec<Item> {
    (first..first + 6)
        .map(|position| {
            let pixels = Stream::new(1, "image").at(position).normals(SIZE * SIZE);
            let square = Gray { width: SIZE, height: SIZE, pixels }.to_square(SIZE);
            task.viewed().item(&square, position)
        })
        .collect()
}

struct Step {
    first_image: u64,
    round: usize,
    is_taken: bool,
}

/// The centre after `steps` of six images, and of the last one the mean loss and the gradient.
fn train(task: &mut DinoTask, steps: &[Step]) -> (Vec<f32>, f64, StateDict) {
    let teacher = Distilled::new(&task.network, &task.dino, 1, &task.device);
    let student = Distilled::new(&task.network, &task.dino, 2, &task.device).train();
    let (mut mean, mut gradient) = (0.0, StateDict::new());
    for (step, &Step { first_image, round, is_taken }) in (0..).zip(steps) {
        let progress = Progress { step, images_seen: first_image, images: 100 };
        let items = items(task, first_image);
        let count = items.len();
        let shared = task.share(&student, &teacher, Batch::of(items), round, progress);
        let losses = rounds(count, round).map(|images| {
            let share = images.len() as f64 / count as f64;
            task.loss(&student, &shared, images, progress).total * share
        });
        let loss = losses.reduce(|sum, loss| sum + loss).unwrap();
        mean = f64::from(loss.clone().into_scalar::<f32>());
        gradient = gradients(&student, &loss.backward());
        // As the loop does it, which learns later than the task whether the step was taken.
        let norm = if is_taken { 1.0 } else { f32::NAN };
        task.after_step(&Norm::new(Tensor::from_data([norm], &task.device)), progress);
    }
    (task.state()["center"].try_to_vec().unwrap(), mean, gradient)
}

#[test]
fn the_centre_stands_still_when_a_step_is_left_out() {
    let step = |first_image, is_taken| Step { first_image, round: 4, is_taken };
    let center = |steps: &[Step]| train(&mut task(), steps).0;
    assert_eq!(center(&[step(0, false)]), [0.0; 12]);
    assert_ne!(center(&[step(0, true)]), [0.0; 12]);
    let with_one_left_out = center(&[step(0, true), step(6, false), step(12, true)]);
    assert_eq!(with_one_left_out, center(&[step(0, true), step(12, true)]));
}

/// Centre, Sinkhorn-Knopp, KoLeo and the masked patches' targets see the whole batch, however it is cut; what an image's
/// student does not see goes with the image.
#[test]
fn micro_batches_of_any_size_take_the_same_step() {
    let mean = Centering::Mean { momentum: 0.9 };
    let sinkhorn = Centering::SinkhornKnopp { iterations: 3 };
    let own = PatchHead::Own(HeadConfig { hidden: 16, bottleneck: 8, prototypes: 10 });
    let ibot = |head: &PatchHead| Some(Ibot { head: head.clone(), ..Ibot::default() });
    let gram = Some(Gram::default());
    for (centering, koleo, ibot, gram, drop_path) in [
        (mean, 0.0, None, None, 0.0),
        (mean, 0.5, None, None, 0.0),
        (sinkhorn, 0.5, None, None, 0.0),
        (mean, 0.0, ibot(&PatchHead::Shared), gram.clone(), 0.0),
        (sinkhorn, 0.5, ibot(&own), gram, 0.5),
    ] {
        let steps = |round| {
            let (ibot, gram) = (ibot.clone(), gram.clone());
            let dino = Dino { centering, koleo, ibot, gram, drop_path, ..dino() };
            let step = |first_image| Step { first_image, round, is_taken: true };
            train(&mut task_of(dino), &[step(0), step(6)])
        };
        let (center, loss, gradient) = steps(6);
        assert_eq!(gradient.contains_key("backbone.embeddings.mask_token"), ibot.is_some());
        let has_own_head = matches!(&ibot, Some(ibot) if ibot.head != PatchHead::Shared);
        assert_eq!(gradient.contains_key("patch_head.last_layer"), has_own_head);
        for round in [4, 3, 1] {
            // Sums of six terms in another order, in f32.
            let (other_center, other_loss, other_gradient) = steps(round);
            assert!((loss - other_loss).abs() < 2e-5, "{round}: {loss} {other_loss}");
            for (one, other) in center.iter().zip(other_center) {
                assert!((one - other).abs() < 1e-6, "{round}: {one} {other}");
            }
            for (name, expected) in &gradient {
                let values = |data: &TensorData| data.try_to_vec::<f32>().unwrap();
                let (expected, found) = (values(expected), values(&other_gradient[name]));
                // Softmax makes the keys' biases cancel: their gradient is nothing but rounding.
                let most = expected.iter().fold(1e-4f32, |most, value| most.max(value.abs()));
                for (one, other) in expected.iter().zip(found) {
                    assert!((one - other).abs() < 1e-3 * most, "{round} {name}: {one} {other}");
                }
            }
        }
    }
}

#[test]
fn masks_and_depth_change_what_the_student_sees_and_nothing_of_the_views() {
    let plain = task();
    let both = task_of(Dino { ibot: Some(Ibot::default()), drop_path: 0.5, ..dino() });
    for (one, other) in items(&plain, 0).iter().zip(items(&both, 0)) {
        assert_eq!(one.views.globals, other.views.globals);
        assert_eq!((one.masks.len(), one.branches.len()), (0, 0));
        assert_eq!((other.masks.len(), other.branches.len()), (2, 3));
        // The first of two layers stays, and each view draws for itself.
        assert!(other.branches.iter().all(|factors| factors[..2] == [1.0, 1.0]));
    }
    let masks: Vec<_> = items(&both, 0).into_iter().flat_map(|item| item.masks).collect();
    assert!(masks.iter().any(|mask| mask.iter().any(|&is_masked| is_masked)));
    assert!(masks.iter().any(|mask| mask.iter().all(|&is_masked| !is_masked)));
    let again: Vec<_> = items(&both, 0).into_iter().flat_map(|item| item.masks).collect();
    assert_eq!(masks, again);
}

#[test]
fn the_loss_of_masked_patches_counts_by_its_weight() {
    let of = |weight| {
        let ibot = Ibot { weight, probability: 1.0, ..Ibot::default() };
        let step = Step { first_image: 0, round: 6, is_taken: true };
        train(&mut task_of(Dino { ibot: Some(ibot), ..dino() }), &[step]).1
    };
    let [one, two, three] = [1.0, 2.0, 3.0].map(of);
    // A cross-entropy of scores in [-1, 1] over a temperature of 0.1.
    assert!(two - one > 1.0 && two - one < 20.0 + 12f64.ln(), "{one} {two}");
    assert!(((three - two) - (two - one)).abs() < 1e-4, "{one} {two} {three}");
}

#[test]
fn the_centre_of_patches_survives_a_restart() {
    let dino = || Dino { ibot: Some(Ibot { probability: 1.0, ..Ibot::default() }), ..dino() };
    let mut task = task_of(dino());
    train(&mut task, &[Step { first_image: 0, round: 6, is_taken: true }]);
    let state = task.state();
    assert_ne!(state["patch_center"].try_to_vec::<f32>().unwrap(), [0.0; 12]);
    let mut resumed = task_of(dino());
    resumed.restore(state.clone()).unwrap();
    assert_eq!(resumed.state(), state);
    let without = StateDict::from([("center".to_owned(), state["center"].clone())]);
    let error = task_of(dino()).restore(without).unwrap_err().to_string();
    assert_eq!(error, "the checkpoint has no patch_center");
}

#[test]
fn an_anchor_is_held_until_another_is_due_and_survives_a_restart() {
    let gram = Gram { from: 6, every: 12, ..Gram::default() };
    let dino = || Dino { gram: Some(gram.clone()), ..dino() };
    let of = |seed: u64| Distilled::new(&task().network, &dino(), seed, &Device::flex());
    let mut task = task_of(dino());
    let mut shared = |seen: u64, teacher: u64| {
        let progress = Progress { step: 0, images_seen: seen, images: 100 };
        let items = items(&task, seen);
        task.share(&of(9).train(), &of(teacher), Batch::of(items), 6, progress);
        let state = task.state();
        let anchor = state.contains_key("anchor.layernorm.weight");
        let mut resumed = task_of(dino());
        resumed.restore(state.clone()).unwrap();
        assert_eq!(resumed.state(), state);
        anchor.then(|| state["anchor.embeddings.cls_token"].clone())
    };
    let class = |seed| {
        crate::models::weights::state_dict(&of(seed).backbone)["embeddings.cls_token"].clone()
    };
    assert_eq!(shared(0, 1), None);
    assert_eq!(shared(6, 2), Some(class(2)));
    assert_eq!(shared(12, 3), Some(class(2)));
    assert_eq!(shared(18, 4), Some(class(4)));
}

#[test]
fn views_have_their_last_sizes_from_a_whole_batch_on() {
    let late = Late { from: 15, global_size: 24, local_size: 12 };
    let views = Views { late: Some(late), ..dino().views };
    let ibot = Some(Ibot { probability: 1.0, ..Ibot::default() });
    let mut task = task_of(Dino { views, ibot, koleo: 0.1, ..dino() });
    let sizes = |first| items(&task, first).iter().map(|it| it.views.sizes).collect::<Vec<_>>();
    assert_eq!(sizes(6), [[SIZE, 8]; 6]);
    assert_eq!(sizes(12), [[24, 12]; 6], "batches of six: the third is the first of the last size");
    let masks = &items(&task, 12)[0].masks;
    assert_eq!(masks.iter().map(Vec::len).collect::<Vec<_>>(), [36, 36]);
    let step = |first_image| Step { first_image, round: 4, is_taken: true };
    let (_, loss, gradient) = train(&mut task, &[step(6), step(12)]);
    assert!(loss.is_finite() && gradient.contains_key("backbone.embeddings.position_embeddings"));
}
