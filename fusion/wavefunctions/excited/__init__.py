"""Excited states by natural excited states: the determinant of all states as one wavefunction of several electron sets.

D. Pfau, S. Axelrod, H. Sutterud, I. von Glehn and J. S. Spencer, Science 385, eadn0137 (2024), arXiv 2308.16848. A
walker is S sets x^1 ... x^S of all electrons; with M_jk = psi_k(x^j), Psi = det M is an antisymmetric wavefunction of S
copies of the system, whose energy is lowest if the psi_k span the S lowest states. The local energy matrix M^-1 (H M)
has the mean U Lambda U^-1 with the energies Lambda of the states.
"""
