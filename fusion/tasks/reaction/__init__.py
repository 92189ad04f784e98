"""Bands of images, transition states, barriers and the paths down from them."""
