"""What a run tells: clocks, console, results.json, TensorBoard, pictures and an HTML report."""
