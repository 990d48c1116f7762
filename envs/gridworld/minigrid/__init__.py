"""Navigation with a partial view, under the rules of Farama's MiniGrid."""
