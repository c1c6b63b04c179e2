"""What the tables are made of: speed, accuracy, limits, build time, calibration, scaling, placement, TensorRT."""
