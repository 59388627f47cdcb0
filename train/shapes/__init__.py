"""Learning to choose the shapes of sampled trees."""
