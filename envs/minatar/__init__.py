"""The five MinAtar games (Young & Tian 2019) under their original rules."""
