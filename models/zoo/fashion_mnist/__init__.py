"""fashion-vit: a real classifier of six layers, trained here, to derive smaller ones from."""
