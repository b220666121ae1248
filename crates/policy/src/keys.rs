//! The keys that LeRobot knows in a family's `config.json`: the fields of its configuration classes.
//! LeRobot refuses a file with another key; here it is told, as newer versions bring new ones.

use serde_json::Value;

/// Of every family. The keys of version 0.6, those that earlier ones wrote, and of later ones those of
/// which something is made.
const COMMON: &str = "
    type n_obs_steps input_features output_features device use_amp use_peft push_to_hub repo_id private tags license
    pretrained_path pretrained_revision normalization_mapping optimizer_lr";

/// By family.
const FAMILIES: [(&str, &str); 8] = [
    (
        "act",
        "
        chunk_size n_action_steps vision_backbone pretrained_backbone_weights replace_final_stride_with_dilation
        pre_norm dim_model n_heads dim_feedforward feedforward_activation n_encoder_layers n_decoder_layers use_vae
        latent_dim n_vae_encoder_layers temporal_ensemble_coeff dropout kl_weight optimizer_weight_decay
        optimizer_lr_backbone",
    ),
    (
        "diffusion",
        "
        horizon n_action_steps drop_n_last_frames vision_backbone resize_shape crop_ratio crop_shape crop_is_random
        pretrained_backbone_weights use_group_norm spatial_softmax_num_keypoints use_separate_rgb_encoder_per_camera
        down_dims kernel_size n_groups diffusion_step_embed_dim use_film_scale_modulation gradient_checkpointing
        noise_scheduler_type num_train_timesteps beta_schedule beta_start beta_end prediction_type clip_sample
        clip_sample_range num_inference_steps compile_model compile_mode do_mask_loss_for_padding optimizer_betas
        optimizer_eps optimizer_weight_decay scheduler_name scheduler_warmup_steps",
    ),
    (
        "smolvla",
        "
        chunk_size n_action_steps max_state_dim max_action_dim resize_imgs_with_padding empty_cameras adapt_to_pi_aloha
        use_delta_joint_actions_aloha tokenizer_max_length num_steps use_cache freeze_vision_encoder train_expert_only
        train_state_proj optimizer_betas optimizer_eps optimizer_weight_decay optimizer_grad_clip_norm
        scheduler_warmup_steps scheduler_decay_steps scheduler_decay_lr vlm_model_name load_vlm_weights
        add_image_special_tokens attention_mode prefix_length pad_language_to num_expert_layers num_vlm_layers
        self_attn_every_n_layers expert_width_multiplier min_period max_period rtc_config compile_model compile_mode",
    ),
    (
        "pi0",
        "
        paligemma_variant action_expert_variant dtype chunk_size n_action_steps max_state_dim max_action_dim
        num_inference_steps time_sampling_beta_alpha time_sampling_beta_beta time_sampling_scale time_sampling_offset
        min_period max_period use_relative_actions relative_exclude_joints action_feature_names rtc_config
        image_resolution empty_cameras gradient_checkpointing compile_model compile_mode freeze_vision_encoder
        train_expert_only optimizer_betas optimizer_eps optimizer_weight_decay optimizer_grad_clip_norm
        scheduler_warmup_steps scheduler_decay_steps scheduler_decay_lr tokenizer_max_length",
    ),
    (
        "pi05",
        "
        paligemma_variant action_expert_variant dtype chunk_size n_action_steps max_state_dim max_action_dim
        num_inference_steps time_sampling_beta_alpha time_sampling_beta_beta time_sampling_scale time_sampling_offset
        min_period max_period use_relative_actions relative_exclude_joints action_feature_names rtc_config
        image_resolution empty_cameras tokenizer_max_length gradient_checkpointing compile_model compile_mode
        use_visual_memory use_proprioceptive_memory memory_frames memory_stride memory_temporal_attention_every
        rtc_training_max_delay freeze_vision_encoder train_expert_only optimizer_betas optimizer_eps optimizer_weight_decay
        optimizer_grad_clip_norm scheduler_warmup_steps scheduler_decay_steps scheduler_decay_lr",
    ),
    (
        "pi0_fast",
        "
        paligemma_variant action_expert_variant dtype chunk_size n_action_steps max_state_dim max_action_dim
        max_action_tokens use_relative_actions relative_exclude_joints action_feature_names rtc_config image_resolution
        empty_cameras tokenizer_max_length text_tokenizer_name action_tokenizer_name temperature max_decoding_steps
        fast_skip_tokens validate_action_token_prefix use_kv_cache gradient_checkpointing compile_model compile_mode
        optimizer_betas optimizer_eps optimizer_weight_decay optimizer_grad_clip_norm scheduler_warmup_steps
        scheduler_decay_steps scheduler_decay_lr",
    ),
    (
        "vqbet",
        "
        n_action_pred_token action_chunk_size vision_backbone crop_shape crop_is_random pretrained_backbone_weights
        use_group_norm spatial_softmax_num_keypoints n_vqvae_training_steps vqvae_n_embed vqvae_embedding_dim
        vqvae_enc_hidden_dim gpt_block_size gpt_input_dim gpt_output_dim gpt_n_layer gpt_n_head gpt_hidden_dim dropout
        offset_loss_weight primary_code_loss_weight secondary_code_loss_weight bet_softmax_temperature
        sequentially_select optimizer_betas optimizer_eps optimizer_weight_decay optimizer_vqvae_lr
        optimizer_vqvae_weight_decay scheduler_warmup_steps",
    ),
    (
        "tdmpc",
        "
        n_action_repeats horizon n_action_steps image_encoder_hidden_dim state_encoder_hidden_dim latent_dim
        q_ensemble_size mlp_dim discount use_mpc cem_iterations max_std min_std n_gaussian_samples n_pi_samples
        uncertainty_regularizer_coeff n_elites elite_weighting_temperature gaussian_mean_momentum
        max_random_shift_ratio reward_coeff expectile_weight value_coeff consistency_coeff advantage_scaling pi_coeff
        temporal_decay_coeff target_model_momentum",
    ),
];

/// The keys of `config` that LeRobot doesn't know in a configuration of `family`.
pub(crate) fn unknown(family: &str, config: &Value) -> Vec<String> {
    let own = FAMILIES.iter().find(|(name, _)| *name == family).map_or("", |(_, keys)| keys);
    let is_known = |key: &str| COMMON.split_whitespace().chain(own.split_whitespace()).any(|known| known == key);
    config.as_object().into_iter().flatten().filter(|(key, _)| !is_known(key)).map(|(key, _)| key.clone()).collect()
}
