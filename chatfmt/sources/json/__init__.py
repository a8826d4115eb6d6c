"""Turn exact JSON records into Arrow record batches, without coercion or loss."""
