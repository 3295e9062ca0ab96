# Words for what is done often; each is one line that works without `just` too.

# format, lints, documentation
check:
    cargo fmt --check && cargo clippy --release --all-targets -- -D warnings && RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --release
# every test
test:
    cargo test --release
# 50 kills at random moments, each resumed
kill:
    UMBRA_KILLS=50 cargo test --release --test it kill
# golden files anew; Python with numpy scipy scikit-image scikit-learn pytorch-msssim pyradiomics torch diffusers transformers torchvision torchxrayvision pytorch-fid torch-fidelity lpips clean-fid peft accelerate safetensors pydicom pillow tensorboard (versions in each script)
golden:
    cd tests/golden && for script in *.py; do python "$script" || exit 1; done && cd models && for script in networks variants mmdit encoders text features; do python $script.py || exit 1; done
# the record of what recipes/tiny.ron learns, anew; read its difference like code
bless:
    UMBRA_BLESS=1 cargo test --release --test it the_tiny_recipe_learns_as_it_did
# all stages in under a minute
tiny:
    cargo run --release -- run recipes/tiny.ron
# all stages, with results worth a look, in about nine minutes
quickstart:
    cargo run --release -- run recipes/quickstart.ron
# the build with CUDA, about 20 minutes of two cores; needs neither toolkit nor GPU
check-cuda:
    CUDARC_CUDA_VERSION=13000 cargo build --release --features cuda --target-dir target/cuda
# documentation of the library, opened
docs:
    cargo doc --no-deps --release --open
# licences, sources, banned crates, known vulnerabilities (cargo install cargo-deny)
deny:
    cargo deny check
